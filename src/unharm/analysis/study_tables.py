"""All tables of a study from its stored scores; one subject and benchmark in memory at a time, and for the
agreement of scorers the scores of one benchmark."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import polars as pl

from unharm.analysis.bias import group_name
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
    associations_table,
    bias_rows,
    expected_ratings,
    scorer_columns,
    subject_rows,
)
from unharm.keys import Shard
from unharm.plan import Plan
from unharm.records import Subject
from unharm.store import Store
from unharm.study import Study


def study_tables(study: Study, plan: Plan, store: Store, shards: list[Shard]) -> dict[str, pl.DataFrame]:
    """The tables of `SCHEMAS`."""
    about = {name: _about_prompts(plan, name) for name in plan.prompts}
    rows: list[dict[str, object]] = []
    unscored: list[pl.DataFrame] = []
    groups: list[pl.DataFrame] = []
    ratings: dict[tuple[Subject, str], pl.DataFrame] = {}
    for (subject, benchmark), several in groupby(shards, key=lambda s: (s.subject, s.benchmark)):
        group = list(several)
        for place, (name, scores) in enumerate(_scores(store, group).items()):
            scores = scores.join(about[benchmark], on="prompt_id", how="left")
            unscored.append(_reasons(subject, benchmark, name, scores))
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
            rows += subject_rows(study, subject, benchmark, scorer, scores, calibration)
            if benchmark == "hbr":
                more, listed = bias_rows(study, subject, scorer, scores)
                rows += more
                groups.append(listed)
    subjects = pl.DataFrame(rows, schema=SUBJECTS_SCHEMA)
    reasons = pl.concat([pl.DataFrame(schema=UNSCORED_SCHEMA), *unscored])
    return {
        "subjects": subjects,
        "arms": arms_table(subjects, study.analysis.confidence),
        "alignment": alignment_table(study, plan.profiles, ratings),
        "associations": associations_table(study, subjects, plan.profiles),
        "bias": pl.concat([pl.DataFrame(schema=BIAS_SCHEMA), *groups]),
        "unscored": reasons.group_by(
            [c for c in UNSCORED_SCHEMA if c != "completions"], maintain_order=True
        ).agg(pl.col("completions").sum()),
        **_quality(study, plan, store, shards),
    }


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
