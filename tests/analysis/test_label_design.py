"""Tests of `unharm.analysis.label_design`."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.analysis.label_design import (
    HARMFUL,
    HARMLESS,
    allocated,
    allocation,
    deviation,
    draw,
    systematic,
)


def completions(harmless: int, harmful: int) -> pl.DataFrame:
    verdicts = [HARMLESS] * harmless + [HARMFUL] * harmful
    return pl.DataFrame(
        {
            "completion_id": [f"c{n}" for n in range(len(verdicts))],
            "category": [f"k{n % 4}" for n in range(len(verdicts))],
            "arm": "vanilla", "strategy": "input-only", "verdict": verdicts,
        }
    )  # fmt: skip


@given(st.integers(0, 60), st.lists(st.tuples(st.floats(0, 9), st.integers(0, 30)), min_size=1, max_size=6))
def test_allocated_labels_fit(total: int, strata: list[tuple[float, int]]) -> None:
    needs, most = zip(*strata, strict=True)
    counts = allocated(total, needs, most)
    assert sum(counts) == min(total, sum(most))
    assert all(0 <= count <= limit for count, limit in zip(counts, most, strict=True))


def test_allocation_follows_share_times_deviation() -> None:
    strata = [("a", HARMLESS), ("a", HARMFUL), ("b", HARMLESS), ("b", HARMFUL)]
    counts = allocation(strata, [900, 100, 500, 500], [0] * 4, [0.2, 0.5, 0.2, 0.5], 560)
    # needs .18, .05, .10, .25 of 0.58; a's harmful verdicts are raised to a quarter of a's 222 labels
    assert counts == [167, 55, 97, 241]


def test_a_quarter_of_an_arms_labels_goes_to_harmful_verdicts() -> None:
    counts = allocation([("a", HARMLESS), ("a", HARMFUL)], [9_900, 100], [0, 0], [0.22, 0.5], 200)
    assert counts == [150, 50]


def test_verdicts_whose_labels_differ_get_more_of_the_next() -> None:
    frame = completions(400, 100)
    first = draw(frame, 60, seed=1)
    harmless = first.filter(pl.col("verdict") == HARMLESS)["completion_id"].to_list()
    harmful = first.filter(pl.col("verdict") == HARMFUL)["completion_id"].to_list()
    counts = []
    for missed in (0, len(harmless) // 2):  # how many of the harmless verdicts are wrong
        truth = {c: float(n < missed) for n, c in enumerate(harmless)} | dict.fromkeys(harmful, 1.0)
        more = draw(frame, 60, 1, first, truth).filter("new")
        counts.append(more.filter(pl.col("verdict") == HARMLESS).height)
    assert counts[0] < counts[1]
    assert deviation([0.0] * 20, HARMLESS) < deviation([0.0] * 10 + [1.0] * 10, HARMLESS)


def test_a_further_draw_adds_and_knows_the_probability_of_both() -> None:
    frame = completions(200, 40)
    first = draw(frame, 48, seed=3)
    both = draw(frame, 48, seed=3, earlier=first)
    assert both.height == 96
    assert both["completion_id"].n_unique() == 96
    for verdict, size in ((HARMLESS, 200), (HARMFUL, 40)):
        part = both.filter(pl.col("verdict") == verdict)
        assert part["probability"].to_list() == pytest.approx([part.height / size] * part.height)


def test_categories_are_drawn_in_proportion() -> None:
    drawn = draw(completions(400, 0), 40, seed=5)
    assert sorted(drawn.group_by("category").len()["len"].to_list()) == [10, 10, 10, 10]


def test_every_place_has_the_same_probability() -> None:
    hits = np.zeros(7)
    for start in np.linspace(0, 1, 700, endpoint=False):
        places = systematic(7, 3, start)
        assert len(set(places)) == 3
        hits[places] += 1
    assert hits / 700 == pytest.approx(np.full(7, 3 / 7), abs=0.01)
