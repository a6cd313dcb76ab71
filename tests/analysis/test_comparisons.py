"""Tests of `unharm.analysis.comparisons`."""

from __future__ import annotations

import polars as pl
import pytest

from support.findings_helpers import cells_of
from unharm.analysis.comparisons import comparisons_table, family_of, pairs
from unharm.analysis.intervals import holm
from unharm.analysis.settings import Analysis


def test_arms_are_compared_on_the_same_prompts_whole_and_by_category() -> None:
    categories = ["a", "a", "b", "b"]
    cells = cells_of(
        {
            "vanilla": {"": [1.0, 2.0, 1.0, 2.0]},
            "vim": {"x": [2.0, 3.0, 1.0, 2.0], "y": [3.0, 4.0, 1.0, float("nan")]},
            "benign:grammar": {"": [1.0, 2.0, 1.0, 3.0]},
        },
        categories,
    )
    table = comparisons_table(cells, ["vanilla", "vim", "benign:grammar"], ["input-only"], Analysis())
    whole = {(r["arm"], r["reference"]): r for r in table.filter(pl.col("category") == "all").to_dicts()}
    row = whole["vim", "vanilla"]
    assert row["value"] == pytest.approx((1 + 1 + 0 + 0 + 2 + 2 + 0) / 7)
    assert (row["n"], row["unscored"], row["profiles"], row["units"]) == (7, 1, 2, 4)
    assert set(whole) == {("vim", "vanilla"), ("vim", "benign:grammar"), ("benign:grammar", "vanilla")}
    parts = {(r["arm"], r["category"]): r for r in table.filter(pl.col("category") != "all").to_dicts()}
    assert parts["vim", "a"]["value"] == 1.5
    assert parts["vim", "b"]["value"] == 0.0
    assert parts["vim", "b"]["p"] is None
    tested = table.drop_nulls("p").filter(pl.col("family") == "arms")
    assert tested["p_adjusted"].to_list() == pytest.approx(holm(tested["p"].to_list()))


def test_every_pair_is_compared_once() -> None:
    found = list(pairs(["vanilla", "icl", "vim", "benign:grammar"], ["input-only", "safety"]))
    arms = [(a, b) for kind, (a, s), (b, _) in found if kind == "arms" and s == "safety"]
    assert len(arms) == 6
    assert arms[0] == ("vim", "icl")
    assert all(b != "icl" or a == "vim" for a, b in arms)
    assert [(a, s) for kind, (a, s), _ in found if kind == "strategies"] == [
        (a, "safety") for a in ("vanilla", "icl", "vim", "benign:grammar")
    ]


def test_guards_are_compared_with_their_controls_and_with_each_other() -> None:
    every = ["input-only", "safety", "value", "wrong-value", "neutral"]
    rows = [(one[1], other[1]) for kind, one, other in pairs(["vim"], every) if kind == "strategies"]
    assert set(rows) == {
        *((s, "input-only") for s in every[1:]),
        *((guard, control) for guard in every[1:3] for control in every[3:]),
        ("value", "safety"),
    }
    families = {
        (one, other): family_of("strategies", ("vim", one), ("vim", other), "input-only", "flagged_rate")
        for one, other in rows
    }
    assert families["neutral", "input-only"] == families["value", "input-only"] == "strategies"
    assert families["value", "neutral"] == families["safety", "wrong-value"] == "controls"
    assert families["value", "safety"] == "between strategies"
