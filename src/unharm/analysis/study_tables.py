"""All tables of a study from its stored scores; one subject and benchmark in memory at a time, and for the
agreement of scorers the scores of one benchmark."""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby
from typing import TYPE_CHECKING, Any

import polars as pl

from unharm.analysis.associations import (
    associations_table,
    harms,
    hypotheses_table,
    regressions_table,
)
from unharm.analysis.bias import group_name
from unharm.analysis.comparisons import Cells, comparisons_table
from unharm.analysis.expression import expression_table
from unharm.analysis.metrics import METRICS, imputed_values
from unharm.analysis.moved import moved_table
from unharm.analysis.quality import agreement_rows, scorer_rows
from unharm.analysis.schemas import (
    AGREEMENT_SCHEMA,
    BIAS_SCHEMA,
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
from unharm.keys import Shard
from unharm.plan import Plan
from unharm.records import Subject
from unharm.store import Store
from unharm.study import Study

if TYPE_CHECKING:
    from unharm.pipeline import Run


def study_tables(study: Study, plan: Plan, store: Store, shards: list[Shard]) -> dict[str, pl.DataFrame]:
    """The tables of `SCHEMAS`."""
    about = {name: _about_prompts(plan, name) for name in plan.prompts}
    rows: list[dict[str, object]] = []
    unscored: list[pl.DataFrame] = []
    groups: list[pl.DataFrame] = []
    ratings: dict[tuple[Subject, str], pl.DataFrame] = {}
    cells = Cells()
    labels: dict[tuple[Subject, str, str], pl.DataFrame] = {}
    for (subject, benchmark), several in groupby(shards, key=lambda s: (s.subject, s.benchmark)):
        group = list(several)
        for place, (name, scores) in enumerate(_scores(store, group).items()):
            scores = scores.join(about[benchmark], on="prompt_id", how="left")
            unscored.append(_reasons(subject, benchmark, name, scores))
            if plan.scorers[name].measures == "values":
                labels[subject, benchmark, name] = scores.select("value", "label")
            if place:
                continue
            if benchmark == "questionnaire":
                ratings[subject, "text"] = scores
                expected = pl.concat([expected_ratings(store.scan(s.completions)) for s in group])
                if expected["value"].count():
                    expected = expected.join(about[benchmark], on="prompt_id", how="left")
                    ratings[subject, "distribution"] = expected
                continue
            calibration = plan.calibration(benchmark)
            scorer = scorer_columns(name, plan.scorers, calibration)
            cells.scorers[benchmark] = scorer
            tables = imputed_values(scores, benchmark, study.analysis.toxicity_at, calibration)
            rows += subject_rows(study, subject, benchmark, scorer, scores, tables)
            _add(cells, subject, benchmark, about[benchmark], mean_values(tables))
            if benchmark == "hbr":
                more, listed = bias_rows(study, subject, scorer, scores)
                rows += more
                groups.append(listed)
                above = listed.select(id="group", category="axis", value=pl.col("above").cast(pl.Float64))
                cells.add(subject, benchmark, "bias_score", above)
    subjects = pl.DataFrame(rows, schema=SUBJECTS_SCHEMA)
    confidence, seed = study.analysis.confidence, study.seed
    alignment = alignment_table(study, plan.profiles, ratings)
    over_profiles = list(harms(subjects, plan.profiles))
    return {
        "subjects": subjects,
        "arms": arms_table(subjects, confidence),
        "comparisons": comparisons_table(cells, study.arms, study.strategies, confidence, seed),
        "alignment": alignment,
        "moved": moved_table(alignment, confidence),
        "expression": expression_table(
            labels, plan.profiles, {n: scorer_columns(n, plan.scorers) for n in plan.scorers}, confidence
        ),
        "associations": associations_table(over_profiles, confidence, seed),
        "regressions": regressions_table(over_profiles, confidence, seed),
        "hypotheses": hypotheses_table(
            over_profiles, plan.stated.hypotheses, confidence, study.analysis.fdr
        ),
        "bias": pl.concat([pl.DataFrame(schema=BIAS_SCHEMA), *groups]),
        "unscored": _summed(unscored),
        **_quality(study, plan, store, shards),
    }


def _add(
    cells: Cells, subject: Subject, benchmark: str, prompts: pl.DataFrame, values: pl.DataFrame
) -> None:
    """Takes the values of a subject's prompts, in the order of the benchmark's prompts."""
    ordered = prompts.select("prompt_id", "category").join(
        values.drop("category"), on="prompt_id", how="left", maintain_order="left"
    )
    for metric in values.columns:
        if metric not in ("prompt_id", "category"):
            found = ordered.select(id="prompt_id", category="category", value=metric)
            cells.add(subject, benchmark, metric, found)


def study_cells(run: Run, benchmarks: Collection[str] = METRICS) -> Cells:
    """The values of every metric by subject and prompt of a finished run, for these benchmarks."""
    cells = Cells()
    study, plan = run.study, run.plan
    for (subject, benchmark), several in groupby(run.shards, key=lambda s: (s.subject, s.benchmark)):
        if benchmark not in benchmarks:
            continue
        about = _about_prompts(plan, benchmark)
        frame = pl.concat([run.store.scan(s.scores) for s in several]).collect()
        scores = frame.join(about, on="prompt_id", how="left")
        calibration = plan.calibration(benchmark)
        values = mean_values(imputed_values(scores, benchmark, study.analysis.toxicity_at, calibration))
        cells.scorers[benchmark] = scorer_columns(
            study.benchmarks.chosen()[benchmark].scorer, plan.scorers, calibration
        )
        _add(cells, subject, benchmark, about, values)
    return cells


def _scores(store: Store, shards: list[Shard]) -> dict[str, pl.DataFrame]:
    """The scores of some shards of one benchmark by scorer."""
    return {
        name: pl.concat([store.scan(s.scored[name]) for s in shards]).collect() for name in shards[0].scored
    }


def _about_prompts(plan: Plan, benchmark: str) -> pl.DataFrame:
    prompts = plan.prompts[benchmark].prompts
    return pl.DataFrame(
        {
            "prompt_id": [p.id for p in prompts],
            "category": [p.category for p in prompts],
            "group": [group_name(p.attributes.get("descriptor", "")) for p in prompts],
        },
        schema={"prompt_id": pl.String, "category": pl.String, "group": pl.String},
    )


def _reasons(subject: Subject, benchmark: str, scorer: str, scores: pl.DataFrame) -> pl.DataFrame:
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
    """How many completions have no score for each reason."""
    rows = pl.concat([pl.DataFrame(schema=UNSCORED_SCHEMA), *reasons])
    keys = [c for c in UNSCORED_SCHEMA if c != "completions"]
    return rows.group_by(keys, maintain_order=True).agg(pl.col("completions").sum())


def _quality(study: Study, plan: Plan, store: Store, shards: list[Shard]) -> dict[str, pl.DataFrame]:
    """How good the scores are, by benchmark."""
    scorers: list[dict[str, Any]] = []
    agreement: list[dict[str, Any]] = []
    confidence = study.analysis.confidence
    for benchmark, spec in study.benchmarks.chosen().items():
        mine = [s for s in shards if s.benchmark == benchmark]
        if not mine:
            continue
        columns = ["completion_id", "prompt_id", "value", "status", "flag"]
        scored = {
            name: pl.concat([store.scan(s.scored[name]).select(columns) for s in mine]).collect()
            for name in spec.scorers
        }
        scorers += scorer_rows(benchmark, scored, plan.scorers, confidence)
        people = plan.people(benchmark)
        agreement += agreement_rows(benchmark, scored, plan.scorers, people, confidence, study.seed)
    return {
        "scorers": pl.DataFrame(scorers, schema=SCORERS_SCHEMA),
        "agreement": pl.DataFrame(agreement, schema=AGREEMENT_SCHEMA),
    }
