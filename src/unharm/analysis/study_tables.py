"""All tables of a study from its stored scores; one subject and benchmark in memory at a time."""

from __future__ import annotations

from itertools import groupby

import polars as pl

from unharm.analysis.bias import group_name
from unharm.analysis.tables import (
    BIAS_SCHEMA,
    SUBJECTS_SCHEMA,
    UNSCORED_SCHEMA,
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
    chosen = study.benchmarks.chosen()
    categories = {
        name: pl.DataFrame(
            {
                "prompt_id": [p.id for p in prompt_set.prompts],
                "category": [p.category for p in prompt_set.prompts],
                "group": [group_name(p.attributes.get("descriptor", "")) for p in prompt_set.prompts],
            },
            schema={"prompt_id": pl.String, "category": pl.String, "group": pl.String},
        )
        for name, prompt_set in plan.prompts.items()
    }
    rows: list[dict[str, object]] = []
    unscored: list[pl.DataFrame] = []
    groups: list[pl.DataFrame] = []
    ratings: dict[tuple[Subject, str], pl.DataFrame] = {}
    for (subject, benchmark), several in groupby(shards, key=lambda s: (s.subject, s.benchmark)):
        group = list(several)
        frame = pl.concat([store.scan(s.scores) for s in group]).collect()
        scores = frame.join(categories[benchmark], on="prompt_id", how="left")
        unscored.append(
            scores.filter(pl.col("status") != "scored")
            .group_by("status", "reason", maintain_order=True)
            .agg(pl.len().cast(pl.Int64).alias("completions"))
            .select(
                pl.lit(subject.arm).alias("arm"),
                pl.lit(subject.strategy).alias("strategy"),
                pl.lit(benchmark).alias("benchmark"),
                pl.lit(chosen[benchmark].scorer).alias("scorer"),
                "status",
                "reason",
                "completions",
            )
        )
        if benchmark == "questionnaire":
            ratings[subject, "text"] = scores
            expected = pl.concat([expected_ratings(store.scan(s.completions)) for s in group])
            if expected["value"].count():
                expected = expected.join(categories[benchmark], on="prompt_id", how="left")
                ratings[subject, "distribution"] = expected
        else:
            scorer = scorer_columns(chosen[benchmark].scorer, plan.scorers)
            rows += subject_rows(study, subject, benchmark, scorer, scores)
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
    }
