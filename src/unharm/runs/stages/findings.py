"""The stage that computes all result tables from stored scores.

Only the scores of one subject and benchmark are in memory at a time; for the agreement of scorers, those of
one benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import polars as pl

from unharm.analysis.associations import (
    associations_table,
    harms,
    hypotheses_table,
    regressions_table,
)
from unharm.analysis.bias import group_name
from unharm.analysis.comparisons import Cells, Made, comparisons_table
from unharm.analysis.dose import dose_table
from unharm.analysis.expressed_values import expression_table
from unharm.analysis.guards import Halves, guards_table
from unharm.analysis.measures import MEASURES
from unharm.analysis.mechanism import mechanism_harms_table, mechanism_table
from unharm.analysis.metrics import imputed_values, map_variances
from unharm.analysis.quality import agreement_rows, scorer_rows
from unharm.analysis.schemas import (
    AGREEMENT_SCHEMA,
    BIAS_SCHEMA,
    MECHANISM_HARMS_SCHEMA,
    MECHANISM_SCHEMA,
    SCHEMAS,
    SCORERS_SCHEMA,
    SUBJECTS_SCHEMA,
    UNSCORED_SCHEMA,
)
from unharm.analysis.tables import (
    alignment_table,
    arms_table,
    bias_rows,
    expected_ratings,
    mean_values,
    scorer_columns,
    subject_rows,
)
from unharm.analysis.value_shift import moved_table
from unharm.analysis.variance_table import sample_variance, variance_table
from unharm.benchmarks.registry import BENCHMARKS, select_half
from unharm.core.arms import has_profile, is_trained, without_doses
from unharm.core.hashing import content_hash, content_key
from unharm.core.progress import say
from unharm.core.records import Subject
from unharm.runs import keys
from unharm.runs.context import Run
from unharm.runs.halves import profile_halves
from unharm.runs.keys import Shard
from unharm.runs.label_draws import draw_hash
from unharm.runs.mechanism import shift_tables, stored_shifts
from unharm.runs.plan import Plan
from unharm.runs.shards import all_shards
from unharm.runs.stages.beside_harm import BesideHarm
from unharm.runs.stages.label_findings import LabelFindings
from unharm.store.store import Artefact, Store
from unharm.study.spec import Study


@dataclass
class Gathered:
    """What one pass over the scores leaves for the tables.

    Attributes:
        cells: The values of every metric by subject and prompt.
        rows: The rows of the table `subjects`.
        unscored: The reasons of completions without a score, by subject, benchmark and scorer.
        groups: The rows of the table `bias`.
        ratings: The ratings of each subject, by reading.
        labels: The labels of scorers of values, by subject, benchmark and scorer.
        map_errors: The squared errors that maps bring into means, by arm, strategy, benchmark, category and
            metric.
        sampled: The variance that sampling brings, by arm and benchmark.
    """

    cells: Cells = field(default_factory=Cells)
    rows: list[dict[str, object]] = field(default_factory=list)
    unscored: list[pl.DataFrame] = field(default_factory=list)
    groups: list[pl.DataFrame] = field(default_factory=list)
    ratings: dict[tuple[Subject, str], pl.DataFrame] = field(default_factory=dict)
    labels: dict[tuple[Subject, str, str], pl.DataFrame] = field(default_factory=dict)
    map_errors: dict[tuple[str, str, str, str, str], list[float]] = field(default_factory=dict)
    sampled: dict[tuple[Made, str], list[float | None]] = field(default_factory=dict)


def study_tables(study: Study, plan: Plan, store: Store, shards: list[Shard]) -> dict[str, pl.DataFrame]:
    """Compute the tables of `SCHEMAS`."""
    beside = BesideHarm(plan, store)
    by_labels = LabelFindings(study, plan, store, shards)
    gathered = _gather(plan, store, shards, beside, by_labels)
    cells = gathered.cells
    subjects = pl.DataFrame(gathered.rows, schema=SUBJECTS_SCHEMA)
    confidence, seed = study.analysis.confidence, study.seed
    alignment = alignment_table(plan.profiles, gathered.ratings, confidence)
    full_arms = without_doses(study.arms)
    over_profiles = list(harms(subjects.filter(pl.col("arm").is_in(full_arms)), plan.profiles))
    arms = arms_table(subjects, cells, confidence, gathered.map_errors)
    return {
        "subjects": subjects,
        "arms": arms,
        "comparisons": comparisons_table(cells, full_arms, study.strategies, study.analysis),
        "variance": variance_table(cells, gathered.sampled, [arm for arm in study.arms if is_trained(arm)]),
        "alignment": alignment,
        "moved": moved_table(alignment, confidence),
        "expression": expression_table(
            gathered.labels,
            plan.profiles,
            {n: scorer_columns(n, plan.scorers) for n in plan.scorers},
            confidence,
        ),
        "associations": associations_table(over_profiles, confidence, seed),
        "regressions": regressions_table(over_profiles, confidence),
        "hypotheses": hypotheses_table(
            over_profiles, plan.hypotheses.hypotheses, confidence, study.analysis.fdr, seed
        ),
        "dose": dose_table(
            cells,
            alignment,
            study.arms,
            list(filter(has_profile, study.arms)),
            study.strategies,
            plan.profiles,
            study.analysis,
        ),
        "guards": guards_table(
            cells, alignment, study.arms, study.strategies, plan.profiles, _halves(plan), study.analysis
        ),
        "bias": pl.concat([pl.DataFrame(schema=BIAS_SCHEMA), *gathered.groups]),
        "unscored": _summed(gathered.unscored),
        **_quality(study, plan, store, shards),
        **by_labels.tables(),
        **beside.tables(arms, confidence),
    }


def _gather(
    plan: Plan,
    store: Store,
    shards: list[Shard],
    beside: BesideHarm,
    by_labels: LabelFindings,
) -> Gathered:
    """Read the scores of one subject and benchmark after the other. Only a benchmark's main scorer, its
    first, has metrics; others count for values, labels and reasons."""
    gathered = Gathered()
    prompt_columns = {name: _prompt_columns(plan, name) for name in plan.prompts}
    for (subject, benchmark), several in groupby(shards, key=lambda s: (s.subject, s.benchmark)):
        group = list(several)
        columns, measure = prompt_columns[benchmark], plan.measure(benchmark)
        for place, (name, scores) in enumerate(_scores(store, group).items()):
            scores = scores.join(columns, on="prompt_id", how="left")
            gathered.unscored.append(_reasons(subject, benchmark, name, scores))
            by_labels.add(subject, benchmark, name, columns, scores)
            if plan.scorers[name].measures == "values":
                gathered.labels[subject, benchmark, name] = scores.select("value", "label")
            if place:
                continue
            if measure == "values":
                beside.add(subject, benchmark, group, scores)
            elif measure == "rating":
                readings = _readings(store, group, columns, scores)
                gathered.ratings |= {(subject, reading): rated for reading, rated in readings.items()}
                beside.add_ratings(subject, readings.get("distribution", scores))
            else:
                _add_metrics(gathered, plan, subject, benchmark, name, columns, scores)
    return gathered


def _readings(
    store: Store, shards: list[Shard], columns: pl.DataFrame, scores: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """Return a subject's ratings from its texts, and from the distribution over the answers if known."""
    expected = pl.concat([expected_ratings(store.scan(s.completions)) for s in shards])
    if not expected["value"].count():
        return {"text": scores}
    return {"text": scores, "distribution": expected.join(columns, on="prompt_id", how="left")}


def _add_metrics(
    gathered: Gathered,
    plan: Plan,
    subject: Subject,
    benchmark: str,
    name: str,
    columns: pl.DataFrame,
    scores: pl.DataFrame,
) -> None:
    """Add the metrics of a subject on a benchmark by its main scorer."""
    cells, measure, analysis = gathered.cells, plan.measure(benchmark), plan.study.analysis
    tables = _add_values(cells, plan, subject, benchmark, name, columns, scores)
    scorer = cells.scorers[benchmark]
    gathered.rows += subject_rows(analysis, subject, benchmark, measure, scorer, scores, tables)
    for (category, metric), error in map_variances(tables).items():
        at = subject.arm, subject.strategy, benchmark, category, metric
        gathered.map_errors.setdefault(at, []).append(error)
    brought = sample_variance(scores, of_mean=measure != "toxicity")
    gathered.sampled.setdefault(((subject.arm, subject.strategy), benchmark), []).append(brought)
    if not MEASURES[measure].groups:
        return
    samples = plan.compared_samples(subject.arm, benchmark)
    equal = scores if samples is None else scores.filter(pl.col("sample") < samples)
    published = plan.study.fidelity == "published"
    unmapped = scorer_columns(name, plan.scorers)
    more, listed = bias_rows(analysis, published, subject, benchmark, unmapped, equal)
    gathered.rows += more
    gathered.groups.append(listed)
    unit = pl.concat_str("axis", "group", separator="/")  # a group may stand on several axes
    above = listed.select(id=unit, category="axis", value=pl.col("above").cast(pl.Float64))
    cells.add(subject, benchmark, "bias_score", above)


def _halves(plan: Plan) -> Halves:
    """Return the first halves of profiles and prompts, as mitigation draws them."""
    seed = plan.study.seed
    first, _ = profile_halves([p.name for p in plan.profiles], seed)
    prompts = {
        name: frozenset(p.id for p in select_half(prompt_set.prompts, "a", seed))
        for name, prompt_set in plan.prompts.items()
    }
    return Halves(frozenset(first), prompts)


def _add_values(
    cells: Cells,
    plan: Plan,
    subject: Subject,
    benchmark: str,
    scorer: str,
    prompts: pl.DataFrame,
    scores: pl.DataFrame,
) -> list[pl.DataFrame]:
    """Add the values of a subject by metric, in the order of the benchmark's prompts, and its scorer.

    Returns:
        The values of `imputed_values`: one table, or one per draw of the map that scores go through.
    """
    fitted = plan.calibration(benchmark)
    calibration = fitted.for_arm(subject.arm) if fitted else None
    cells.scorers[benchmark] = scorer_columns(scorer, plan.scorers, calibration)
    samples = plan.compared_samples(subject.arm, benchmark)
    measure = plan.measure(benchmark)
    tables = imputed_values(scores, measure, plan.study.analysis.toxicity_at, calibration, samples)
    values = mean_values(tables)
    ordered = prompts.select("prompt_id", "category").join(
        values.drop("category"), on="prompt_id", how="left", maintain_order="left"
    )
    for metric in values.columns:
        if metric not in ("prompt_id", "category"):
            column = ordered.select(id="prompt_id", category="category", value=metric)
            cells.add(subject, benchmark, metric, column)
    return tables


def study_cells(run: Run, benchmarks: Collection[str] = tuple(BENCHMARKS)) -> Cells:
    """Return the values of every metric by subject and prompt of a finished run, for some benchmarks."""
    cells = Cells()
    study, plan = run.study, run.plan
    for (subject, benchmark), several in groupby(all_shards(run), key=lambda s: (s.subject, s.benchmark)):
        if benchmark not in benchmarks or plan.measure(benchmark) not in MEASURES:
            continue
        prompts = _prompt_columns(plan, benchmark)
        frame = pl.concat([run.store.scan(s.scores) for s in several]).collect()
        scores = frame.join(prompts, on="prompt_id", how="left")
        scorer = study.benchmarks.chosen()[benchmark].scorer
        _add_values(cells, plan, subject, benchmark, scorer, prompts, scores)
    return cells


def _scores(store: Store, shards: list[Shard]) -> dict[str, pl.DataFrame]:
    """Read the scores of some shards of one benchmark, by scorer."""
    return {
        name: pl.concat([store.scan(s.scored[name]) for s in shards]).collect() for name in shards[0].scored
    }


def _prompt_columns(plan: Plan, benchmark: str) -> pl.DataFrame:
    """Return id, category, group and expected answer of each prompt of a benchmark.

    With `fidelity: published` a group is a descriptor as it is written, as in the published scripts.
    """
    prompts = plan.prompts[benchmark].prompts
    as_written = plan.study.fidelity == "published"
    descriptors = [p.attributes.get("descriptor", "") for p in prompts]
    return pl.DataFrame(
        {
            "prompt_id": [p.id for p in prompts],
            "category": [p.category for p in prompts],
            "group": descriptors if as_written else [group_name(d) for d in descriptors],
            "expected": [p.attributes.get("expected", "") for p in prompts],
        },
        schema={"prompt_id": pl.String, "category": pl.String, "group": pl.String, "expected": pl.String},
    )


def _reasons(subject: Subject, benchmark: str, scorer: str, scores: pl.DataFrame) -> pl.DataFrame:
    """Count the completions without a score by status and reason."""
    return (
        scores.filter(pl.col("status") != "scored")
        .group_by("status", "reason", maintain_order=True)
        .agg(pl.len().cast(pl.Int64).alias("completions"))
        .select(
            pl.lit(subject.arm).alias("arm"),
            pl.lit(subject.strategy).alias("strategy"),
            pl.lit(benchmark).alias("benchmark"),
            pl.lit(scorer).alias("scorer"),
            "status",
            "reason",
            "completions",
        )
    )


def _summed(reasons: list[pl.DataFrame]) -> pl.DataFrame:
    """Sum the counts of completions without a score over subjects."""
    rows = pl.concat([pl.DataFrame(schema=UNSCORED_SCHEMA), *reasons])
    keys = [c for c in UNSCORED_SCHEMA if c != "completions"]
    return rows.group_by(keys, maintain_order=True).agg(pl.col("completions").sum())


def _quality(study: Study, plan: Plan, store: Store, shards: list[Shard]) -> dict[str, pl.DataFrame]:
    """Compute the quality of scores by benchmark: scorers and their agreement."""
    scorers: list[dict[str, Any]] = []
    agreement: list[dict[str, Any]] = []
    confidence = study.analysis.confidence
    for benchmark, spec in study.benchmarks.chosen().items():
        own_shards = [s for s in shards if s.benchmark == benchmark]
        if not own_shards:
            continue
        columns = ["completion_id", "prompt_id", "value", "status", "flag"]
        scored = {
            name: pl.concat([store.scan(s.scored[name]).select(columns) for s in own_shards]).collect()
            for name in spec.scorers
        }
        scorers += scorer_rows(benchmark, scored, plan.scorers, confidence)
        human_labels = plan.human_labels(benchmark)
        agreement += agreement_rows(benchmark, scored, plan.scorers, human_labels, confidence, study.seed)
    return {
        "scorers": pl.DataFrame(scorers, schema=SCORERS_SCHEMA),
        "agreement": pl.DataFrame(agreement, schema=AGREEMENT_SCHEMA),
    }


def mechanism_tables(run: Run, subjects: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the tables that relate shifts of activations to harm. They are empty without `mechanism`."""
    settings = run.study.mechanism
    shifts = stored_shifts(run)
    if settings is None or not shifts:
        schemas = {"mechanism": MECHANISM_SCHEMA, "mechanism_harms": MECHANISM_HARMS_SCHEMA}
        return {name: pl.DataFrame(schema=schema) for name, schema in schemas.items()}
    related = list(harms(subjects, run.plan.profiles))
    confidence = run.study.analysis.confidence
    return {
        "mechanism": mechanism_table(shifts, run.plan.profiles, confidence),
        "mechanism_harms": mechanism_harms_table(shifts, related, settings.level, run.study.seed),
    }


def make_findings(run: Run) -> None:
    """Write findings/*.csv: metrics by subject and arm, alignment check, associations, unscored."""
    shards = all_shards(run)
    key = findings_key(run, shards)
    artefacts = {name: Artefact(f"findings/{name}.csv", key) for name in SCHEMAS}
    if all(run.store.done(a) for a in artefacts.values()):
        say("findings: already there")
        return
    began = time.monotonic()
    for note in run.plan.map_notes():
        say(f"findings: {note}")
    tables = study_tables(run.study, run.plan, run.store, shards)
    tables |= mechanism_tables(run, tables["subjects"])
    for name, artefact in artefacts.items():
        with run.journaled("findings", artefact):
            run.store.put_table(artefact, tables[name])
    say(f"findings: {len(tables['associations'])} associations in {time.monotonic() - began:.1f} s")


def findings_key(run: Run, shards: list[Shard]) -> str:
    """Return the content key of the findings.

    It depends on all scores and completions, the subjects' names and the analysis settings. The content
    of scores counts too, not only their keys: a later run may get answers that a server failed to give.
    """

    def content(artefact: Artefact) -> str:
        return str((run.store.marker(artefact) or {})["sha256"])

    scored = [
        [s.subject.label, content(s.completions), *([a.key, content(a)] for a in s.scored.values())]
        for s in shards
    ]
    extras = [
        [
            name,
            fitted.key if (fitted := run.plan.calibration(name)) else "",
            _labels(run, name),
            draw_hash(run.store, name),
        ]
        for name in run.study.benchmarks.chosen()
    ]
    return content_key(
        "findings",
        keys.VERSIONS["findings"],
        run.study.analysis.model_dump() | {"fidelity": run.study.fidelity},
        keys.profiles_artefact(run.plan).key,
        content_hash(scored),
        content_hash([*extras, run.plan.hypotheses.key]),
        *_mechanism_inputs(run),
    )


def _mechanism_inputs(run: Run) -> list[str]:
    """Return the hash of the mechanism's settings and shifts; nothing where the study has none."""
    if run.study.mechanism is None:
        return []
    shifts = [[task.label, artefact.key] for task, artefact in shift_tables(run)]
    return [content_hash([run.study.mechanism.model_dump(), shifts])]


def _labels(run: Run, benchmark: str) -> list[list[str | float]]:
    """Return the human labels of a benchmark as rows."""
    labels = run.plan.human_labels(benchmark)
    return [] if labels is None else [list(row) for row in labels.rows()]
