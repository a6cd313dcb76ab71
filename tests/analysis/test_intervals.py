"""Tests of `unharm.analysis.intervals`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unharm.analysis.intervals import (
    adjusted,
    bounded_interval,
    holm,
    mean_interval,
    share_interval,
    spearman,
)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)  # Newcombe (1998), table I, for 81/263; the others by the formula
def test_wilson(hits: int, n: int, low: float, high: float) -> None:
    estimate = share_interval(hits, n, 0.95, "prompt")
    assert estimate.value == hits / n
    assert (estimate.low, estimate.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval(case: tuple[int, int]) -> None:
    estimate = share_interval(*case, 0.95, "prompt")
    assert estimate.low is not None
    assert estimate.high is not None
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1  # type: ignore[operator]


def test_mean_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    low, high = stats.t.interval(0.9, 3, loc=4.0, scale=stats.sem(values))
    estimate = mean_interval(values, 0.9, "profile")
    assert (estimate.value, estimate.n) == (4.0, 4)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_too_few_units_have_no_interval() -> None:
    assert mean_interval([], 0.95, "prompt", 3) == mean_interval([], 0.95, "prompt", 3)
    assert mean_interval([], 0.95, "prompt", 3).value is None
    assert mean_interval([], 0.95, "prompt", 3).unscored == 3
    assert mean_interval([2.0], 0.95, "prompt").low is None
    equal = mean_interval([0.0] * 14, 0.95, "profile")
    assert (equal.value, equal.low, equal.high, equal.n) == (0.0, None, None, 14)
    assert share_interval(0, 0, 0.95, "prompt").value is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=4, max_size=30))
def test_spearman_is_scipys_and_never_nan(pairs: list[tuple[float, float]]) -> None:
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    estimate, p = spearman(x, y, 0.95)
    both_vary = len(set(x)) > 1 and len(set(y)) > 1
    assert estimate.value == (pytest.approx(stats.spearmanr(x, y).statistic) if both_vary else None)
    assert (p is None) >= (not both_vary)
    parts = [part for part in (estimate.low, estimate.value, estimate.high) if part is not None]
    assert [-1, *parts, 1] == sorted([-1, *parts, 1])


def test_spearman_interval_golden() -> None:
    estimate, _ = spearman([1, 2, 3, 4, 5, 6, 7, 8], [2, 1, 4, 3, 6, 5, 8, 7], 0.95)
    r = 1 - 6 * 8 / (8 * 63)
    z = 1.959964 * math.sqrt((1 + r * r / 2) / 5)
    assert estimate.value == pytest.approx(r)
    assert estimate.low == pytest.approx(math.tanh(math.atanh(r) - z), abs=1e-6)


def test_benjamini_hochberg_golden() -> None:
    assert adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjusted([]) == []


def test_holm_golden() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("base", [0.03, 0.3])
def test_bounded_means_are_covered_where_most_units_are_equal(base: float) -> None:
    """Scores of 1 to 5 of which few are above 1, over 30 units: Student's t covers 90 %."""
    draw = np.random.default_rng(11)
    truth = 1 + 2.5 * base
    inside = []
    for _ in range(400):
        values = np.where(draw.random(30) < base, draw.integers(2, 6, 30), 1)
        estimate = bounded_interval(values.tolist(), 0.95, "prompt", 0, (1.0, 5.0))
        assert estimate.low is not None
        assert estimate.high is not None
        assert 1 <= estimate.low <= values.mean() <= estimate.high <= 5
        inside.append(estimate.low <= truth <= estimate.high)
    assert 0.93 <= np.mean(inside) <= 0.995


def test_bounded_means_of_equal_units_have_a_width_and_single_units_no_interval() -> None:
    ones = bounded_interval([1.0] * 30, 0.95, "prompt", 2, (1.0, 5.0))
    assert (ones.value, ones.low, ones.n, ones.unscored) == (1.0, 1.0, 30, 2)
    assert ones.high == pytest.approx(1 + 4 * stats.beta.ppf(0.975, 1, 30))
    assert bounded_interval([3.0], 0.95, "prompt", 0, (1.0, 5.0)).low is None
    assert bounded_interval([], 0.95, "prompt", 0, (1.0, 5.0)).value is None
