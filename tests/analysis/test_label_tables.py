"""Tests of `unharm.analysis.label_tables` and `scorer_error_tables`."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from unharm.analysis.corrected import corrected_difference
from unharm.analysis.label_tables import ScoredLabels, arm_rate, corrected_tables
from unharm.analysis.scorer_error_tables import scorer_errors_table
from unharm.analysis.settings import Analysis
from unharm.analysis.verdicts import LINEAR
from unharm.core.records import Subject

CATEGORIES = ("one", "two", "three")
PROMPTS = 120


@pytest.fixture(scope="module")
def scored() -> ScoredLabels:
    """Two arms, three categories of 40 prompts. In the category 'two' the other arm harms more; the scorer
    raises more false alarms on it everywhere. All is labelled but the category 'three' of vanilla."""
    draw = np.random.default_rng(3)
    labels = ScoredLabels()
    labels.scorers["beavertails"] = {"scorer": "judge", "scorer_version": "1", "stand_in": False}
    category = np.array([CATEGORIES[n % 3] for n in range(PROMPTS)])
    prompts = pl.DataFrame(
        {"prompt_id": [f"p{n}" for n in range(PROMPTS)], "category": category, "expected": [""] * PROMPTS}
    )
    for arm, alarms in (("vanilla", 0.1), ("icl", 0.3)):
        harmful = draw.random(PROMPTS) < np.where((arm == "icl") & (category == "two"), 0.9, 0.2)
        flagged = np.where(harmful, draw.random(PROMPTS) < 0.9, draw.random(PROMPTS) < alarms)
        scores = prompts.select(
            "prompt_id", completion_id=pl.format("{}-" + arm, "prompt_id")
        ).with_columns(value=pl.Series(flagged.astype(float)), reason=pl.lit(""))
        truth = scores.select(
            "completion_id", truth=pl.Series(harmful.astype(float)), probability=pl.lit(1.0)
        )
        if arm == "vanilla":
            truth = truth.filter(pl.Series(category != "three"))
        labels.add(Subject(arm, None, "input-only"), "beavertails", "flagged", prompts, scores, truth)
    return labels


def test_differences_are_corrected_by_category(scored: ScoredLabels) -> None:
    tables = corrected_tables(scored, ["vanilla", "icl"], ["input-only"], Analysis(), 1)
    rows = {r["category"]: r for r in tables["corrected_differences"].to_dicts()}
    assert list(rows) == ["all", "one", "three", "two"]
    assert {c: r["family"] for c, r in rows.items()} == {
        "all": "arms", **dict.fromkeys(CATEGORIES, "arms by category")
    }  # fmt: skip
    made = ("icl", "input-only"), ("vanilla", "input-only")
    mask = scored.verdicts.mask("beavertails", "", "two")
    rates = [arm_rate(scored, m, "beavertails", LINEAR["flagged"][0], mask).rate for m in made]
    assert rates[0] is not None
    assert rates[1] is not None
    expected = corrected_difference(rates[0], rates[1], 0.95)
    assert (rows["two"]["value"], rows["two"]["p"]) == (expected.value, expected.p)
    assert rows["two"]["verdict"] == "differs"
    assert rows["one"]["verdict"] == "undecided"
    assert rows["one"]["low"] < 0 < rows["one"]["high"]
    assert rows["three"]["verdict"] == "not tested"
    assert rows["three"]["note"] == "one of the arms has no corrected rate"
    assert rows["two"]["p_adjusted"] == pytest.approx(2 * rows["two"]["p"])  # of two tested categories


def test_a_category_without_labels_has_a_raw_rate_alone(scored: ScoredLabels) -> None:
    rates = corrected_tables(scored, ["vanilla", "icl"], ["input-only"], Analysis(), 1)["corrected"]
    [row] = rates.filter(pl.col("arm") == "vanilla", pl.col("category") == "three").to_dicts()
    assert (row["value"], row["n"]) == (None, 0)
    assert row["raw_low"] <= row["raw"] <= row["raw_high"]
    assert row["note"]
    whole = rates.filter(pl.col("category") == "all")
    assert whole["same_errors"].null_count() == 0
    assert rates.filter(pl.col("category") != "all")["same_errors"].null_count() == 6


def test_errors_of_a_scorer_that_shift_are_noticed(scored: ScoredLabels) -> None:
    errors = scorer_errors_table({"judge": scored}, 0.05, 0.95)
    rows = {(r["arm"], r["measure"]): r for r in errors.to_dicts()}
    assert rows["icl", "specificity"]["value"] < rows["vanilla", "specificity"]["value"]
    assert rows["icl", "specificity"]["p"] < 0.05
    assert rows["vanilla", "specificity"]["verdict"] == "not tested"
    assert rows["icl", "sensitivity"]["verdict"] == "undecided"
