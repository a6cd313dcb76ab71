"""Differences of arms against the t test, the analysis of variance and the bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from support.findings_helpers import people
from unharm.analysis.paired import difference, hall_inverse, hall_transform
from unharm.analysis.simulate import (
    PAPER,
    Bench,
    World,
    simulated,
    true_difference,
    without_difference,
)


def test_one_profile_is_the_paired_t_test() -> None:
    """Without skewness (mirrored numbers) the transformation does nothing."""
    d = np.array([[-3.0, -1.0, 0.5, 1.5, 3.0, 5.0]])
    assert stats.skew(d[0]) == pytest.approx(0)
    found = difference(d, 0.95)
    expected = stats.ttest_1samp(d[0], 0)
    low, high = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert (found.profiles, found.prompts, found.n) == (1, 6, 6)


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 1000))
def test_complete_tables_have_the_error_of_the_analysis_of_variance(
    rows: int, columns: int, seed: int
) -> None:
    """Var(mean) = (MS_rows + MS_columns − MS_rest)/(rows × columns), but for what cells alone add."""
    draw = np.random.default_rng(seed)
    d = (
        draw.normal(size=(rows, 1))
        + draw.normal(size=(1, columns))
        + 0.1 * draw.normal(size=(rows, columns))
    )
    found = difference(d, 0.95)
    mean = d.mean()
    ms_rows = columns * ((d.mean(axis=1) - mean) ** 2).sum() / (rows - 1)
    ms_columns = rows * ((d.mean(axis=0) - mean) ** 2).sum() / (columns - 1)
    n = rows * columns
    cells = ((d - mean) ** 2).sum() / (n - 1)
    variance = (ms_rows + ms_columns - cells) / n
    assume(variance > max(ms_rows, ms_columns) / n / 2)
    assert found.low is not None
    assert found.high is not None
    assert found.freedom is not None
    t = stats.t.ppf(0.975, found.freedom)
    assert found.high - found.low == pytest.approx(2 * t * math.sqrt(variance), rel=1e-6)


@given(st.floats(-6, 6), st.floats(-1.5, 1.5))
def test_the_transformation_has_its_inverse(t: float, skew: float) -> None:
    assert hall_inverse(hall_transform(t, skew), skew) == pytest.approx(t, abs=1e-6)


def test_missing_cells_are_left_out_and_nothing_is_made_of_nothing() -> None:
    d = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, np.nan]])
    found = difference(d, 0.95)
    assert (found.value, found.n, found.profiles, found.prompts) == (2.0, 3, 2, 2)
    assert difference(np.full((2, 3), np.nan), 0.95).value is None
    assert difference(np.zeros((0, 0)), 0.95).value is None
    same = difference(np.ones((3, 4)), 0.95, 1)
    assert (same.value, same.low, same.p, same.low_check) == (1.0, None, None, None)
    one = difference(np.array([[2.0]]), 0.95)
    assert (one.value, one.low) == (2.0, None)


@pytest.mark.parametrize("name", ["hexphi", "beavertails"])
def test_intervals_of_differences_cover_and_agree_with_the_bootstrap(name: str) -> None:
    bench = PAPER[name]
    world = without_difference(bench, World())
    importances = people(40)
    hits, widths = 0, []
    for seed in range(120):
        vanilla, aligned, _ = simulated(importances, name, bench, world, seed)
        d = aligned[:, :, 0] - vanilla[None, :, 0]
        found = difference(d, 0.95, seed if seed < 10 else None)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
        if found.low_check is not None and found.high_check is not None:
            widths.append((found.high_check - found.low_check) / (found.high - found.low))
    assert 0.89 <= hits / 120 <= 0.99
    assert np.mean(widths) == pytest.approx(1, abs=0.12)


def test_a_planted_shift_is_what_is_found() -> None:
    bench = Bench("harmfulness", {"a": 60}, level=0.0)
    world = World(shift=0.5, noise=0.0)
    truth = true_difference(bench, world)
    values = []
    for seed in range(30):
        vanilla, aligned, _ = simulated(people(30), "hexphi", bench, world, seed)
        values.append(float(np.nanmean(aligned) - np.nanmean(vanilla)))
    assert np.mean(values) == pytest.approx(truth, abs=3 * np.std(values) / math.sqrt(30))
