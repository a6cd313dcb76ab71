"""Tests of `unharm.analysis.log_comparison`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from support.findings_helpers import SCORER
from unharm.analysis.comparisons import Cells, comparisons_table
from unharm.analysis.log_comparison import LogSettings, compare_logs
from unharm.analysis.scored_log import EPOCHS, LOG_SCHEMA, REDUCER, ScoredLog
from unharm.analysis.settings import Analysis
from unharm.core.errors import UserError
from unharm.core.records import Subject

PROMPTS = 60
SAME = ("value_arm", "value_reference", "value", "low", "high", "n", "unscored", "seeds", "seeds_hold", "units",
        "effect", "p", "p_adjusted", "margin", "verdict", "note")  # fmt: skip


def scores(rates: float, seed: int, runs: int) -> np.ndarray:
    """Verdicts of some runs [runs, prompts], one in twenty of them missing."""
    draw = np.random.default_rng(seed)
    values = (draw.random((runs, PROMPTS)) < rates).astype(float)
    values[draw.random(values.shape) < 0.05] = np.nan
    return values


def log(values: np.ndarray, metric: str = "flagged_rate", **fields: Any) -> ScoredLog:
    rows = [
        (str(n), "even" if n % 2 == 0 else "odd", metric, None if np.isnan(v) else float(v), f"text {n}")
        for n, v in enumerate(values)
    ]
    frame = pl.DataFrame(rows, schema=LOG_SCHEMA, orient="row")
    return replace(ScoredLog(Path("a.jsonl"), "beavertails", "1", "model", frame), **fields)


def test_it_equals_the_comparison_inside_a_study_to_the_last_digit() -> None:
    sides = scores(0.2, 1, 3), scores(0.35, 2, 4)
    cells = Cells()
    cells.scorers["beavertails"] = SCORER
    for arm, values in zip(("vanilla", "benign:grammar"), sides, strict=True):
        for seed, row in enumerate(values):
            frame = log(row).scores.select("id", "category", "value")
            cells.add(Subject(arm, None, "input-only", seed), "beavertails", "flagged_rate", frame)
    inside = comparisons_table(cells, ["vanilla", "benign:grammar"], ["input-only"], Analysis()).to_dicts()
    outside = compare_logs(*([log(row) for row in side] for side in sides), LogSettings()).rows
    assert len(inside) == len(outside) == 3
    for one, other in zip(inside, outside, strict=True):
        assert one["category"] == other["category"]
        assert {c: one[c] for c in SAME} == {c: other[c] for c in SAME}


def test_a_side_with_other_order_and_more_samples_is_paired_by_id() -> None:
    one, other = log(scores(0.2, 1, 1)[0]), log(scores(0.4, 2, 1)[0])
    plain = compare_logs([one], [other], LogSettings()).rows[0]
    more = pl.concat(
        [other.scores.reverse(), other.scores.head(1).with_columns(id=pl.lit("extra"), content=pl.lit("x"))]
    )
    shuffled = compare_logs([one], [replace(other, scores=more)], LogSettings())
    assert shuffled.rows[0]["value"] == plain["value"]
    assert shuffled.rows[0]["p"] == pytest.approx(plain["p"])
    assert any("1 of 61 samples are in one side only" in note for note in shuffled.notes)


def test_ranges_are_given_said_or_seen() -> None:
    values = scores(0.5, 3, 1)[0] * 4 + 1
    one, other = log(values, "harm"), log(values[::-1], "harm")
    said = {"ranges": {"harm": (1.0, 5.0)}}
    assert compare_logs([one], [other], LogSettings()).rows[0]["range"] == "none"
    assert compare_logs([one], [other], LogSettings()).rows[0]["margin"] is None
    assert compare_logs([one], [other], LogSettings(ranges={"": (0, 10)})).rows[0]["range"] == "0 to 10"
    assert compare_logs([replace(one, **said)], [other], LogSettings()).rows[0]["range"] == "1 to 5"
    assert compare_logs([log(values / 5)], [log(values / 5)], LogSettings()).rows[0]["range"] == "0 to 1"


def test_a_limited_change_is_judged_in_both_directions() -> None:
    low, high = log(scores(0.1, 1, 1)[0]), log(scores(0.9, 2, 1)[0])
    limits = LogSettings(most_increase={"": 0.05}, most_decrease={"flagged_rate": 0.05})
    assert compare_logs([low], [high], limits).rows[0]["gate"] == "risen"
    assert compare_logs([high], [low], limits).rows[0]["gate"] == "fallen"
    wide = LogSettings(most_increase={"": 1.0})
    assert compare_logs([low], [high], wide).rows[0]["gate"] == "within"
    assert compare_logs([low], [high], LogSettings()).rows[0]["gate"] is None


ONE = log(scores(0.2, 1, 1)[0])
TWO = log(scores(0.4, 2, 1)[0])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([ONE], [replace(TWO, task="other")], "no common task: beavertails and other"),
        ([ONE], [replace(TWO, version="2")], "other versions of the task: 1, 2"),
        ([ONE], [replace(TWO, scores=TWO.scores.with_columns(id="x" + pl.col("id")))], "no sample has the same id"),
        ([ONE], [replace(TWO, scores=TWO.scores.with_columns(content="x" + pl.col("content")))],
         "60 samples have the same id but other content"),
        ([ONE], [replace(TWO, scores=TWO.scores.with_columns(metric=pl.lit("acc")))], "no common metric"),
        ([ONE], [replace(TWO, arm="vim", profile=p) for p in ("power", "power")], "several logs of the same subject"),
        ([ONE], [replace(TWO, arm=arm) for arm in ("vim", "icl")], "one side has several arms: icl, vim"),
        ([replace(ONE, settings={EPOCHS: "1", REDUCER: "max"})], [replace(TWO, settings={EPOCHS: "10", REDUCER: "max"})],
         "the maximum over 1 and 10 epochs"),
    ],
)  # fmt: skip
def test_sides_that_cannot_be_compared(
    before: list[ScoredLog], after: list[ScoredLog], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compare_logs(before, after, LogSettings())


def test_what_differs_without_harm_is_a_note() -> None:
    other = replace(TWO, settings={"examples in the prompt": "5"})
    extra = replace(TWO, task="second")
    notes = compare_logs(
        [replace(ONE, settings={"examples in the prompt": "0"})], [other, extra], LogSettings()
    ).notes
    assert "only in B, left out: second" in notes
    assert "beavertails: examples in the prompt differs: 0, 5" in notes


def test_a_log_without_a_name_of_its_task_takes_that_of_the_other() -> None:
    assert compare_logs([replace(ONE, task="")], [TWO], LogSettings()).rows[0]["task"] == "beavertails"
