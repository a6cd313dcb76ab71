"""Tests of `unharm.analysis.correlations`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from support.findings_helpers import people
from unharm.analysis.correlations import (
    axes,
    bootstrapped,
    detectable,
    inflation,
    on_axes,
    pearson,
    rank_correlations,
    ridge,
)
from unharm.analysis.intervals import spearman
from unharm.core.values import VALUES
from unharm.profiles.extreme import extreme


@given(st.integers(4, 30), st.integers(0, 1000))
@settings(max_examples=30)
def test_correlations_of_many_pairs_are_those_of_one(n: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, y = draw.integers(1, 7, (n, 3)).astype(float), draw.normal(size=(n, 2)).round(1)
    found = rank_correlations(x, y, 0.95)
    for i in range(3):
        for j in range(2):
            estimate, p = spearman(x[:, i].tolist(), y[:, j].tolist(), 0.95)
            assume(estimate.value is not None and p is not None and abs(estimate.value) < 0.999)
            assert found.r[i, j] == pytest.approx(estimate.value)
            assert found.p[i, j] == pytest.approx(max(p or 0.0, 2 / math.factorial(min(n, 20))))
            assert found.low[i, j] == pytest.approx(estimate.low)
            plain = stats.pearsonr(x[:, i], y[:, j]).statistic
            assert pearson(x, y)[i, j] == pytest.approx(plain, abs=1e-9)


def test_what_does_not_vary_has_no_correlation() -> None:
    found = rank_correlations(np.ones((5, 1)), np.arange(5.0)[:, None], 0.95)
    assert math.isnan(found.r[0, 0])
    assert spearman([1.0] * 5, [0.0, 1.0, 2.0, 3.0, 4.0], 0.95)[0].value is None


def test_few_profiles_are_never_certain() -> None:
    x = np.arange(4.0)[:, None]
    assert rank_correlations(x, x, 0.95).p[0, 0] == pytest.approx(2 / 24)


def test_bootstrapped_correlations_are_as_wide_as_resampling_one_by_one() -> None:
    draw = np.random.default_rng(4)
    x = draw.normal(size=(80, 1))
    y = 0.5 * x + draw.normal(size=(80, 1))
    low, high = bootstrapped(x, y, 0.95, 1)
    plain = stats.bootstrap(
        (x[:, 0], y[:, 0]), lambda a, b: stats.pearsonr(a, b).statistic, paired=True, vectorized=False,
        n_resamples=2000, method="percentile", rng=2,
    ).confidence_interval  # fmt: skip
    assert float(low[0, 0]) == pytest.approx(plain.low, abs=0.03)
    assert float(high[0, 0]) == pytest.approx(plain.high, abs=0.03)


def test_axes_lie_where_the_circle_has_them() -> None:
    place = axes(
        np.array([extreme(n).importances for n in ("openness-to-change", "conservation", "power")])
    )
    assert place[0, 0] == pytest.approx(5)
    assert place[1, 0] == pytest.approx(-5)
    assert place[2, 0] == pytest.approx(0)
    assert place[2, 1] == pytest.approx(5 / 3)


def test_a_planted_slope_is_found_on_its_axis() -> None:
    importances = people(200)
    draw = np.random.default_rng(3)
    harm = 2 + 0.3 * axes(importances)[:, 0] + draw.normal(0, 0.2, 200)
    found = on_axes(importances, harm, 0.95)
    assert found is not None
    openness, enhancement = found
    design = np.column_stack([np.ones(200), axes(importances)])
    expected = np.linalg.lstsq(design, harm, rcond=None)[0]
    assert openness.value == pytest.approx(expected[1])
    assert openness.low is not None
    assert openness.high is not None
    assert openness.low < 0.3 < openness.high
    assert openness.p is not None
    assert openness.p < 1e-9
    assert enhancement.value == pytest.approx(expected[2])
    assert on_axes(importances, np.ones(200), 0.95) is None
    assert on_axes(importances[:5], harm[:5], 0.95) is None


def test_ridge_orders_the_values_and_inflation_tells_their_collinearity() -> None:
    importances = people(150)
    own = importances - importances.mean(axis=1, keepdims=True)
    power = VALUES.index("power")
    harm = own[:, power] + np.random.default_rng(1).normal(0, 0.5, 150)
    found = ridge(importances, harm, 0.95, 1)
    assert found is not None
    assert max(range(10), key=lambda n: found[n].value) == power
    assert found[power].low is not None
    assert found[power].low > 0
    assert ridge(importances[:8], harm[:8], 0.95, 1) is None
    near = importances.copy()
    near[:, 0] = near[:, 1] + np.random.default_rng(2).normal(0, 0.1, 150)
    factors = inflation(near)
    assert factors[0] is not None
    assert factors[0] > 50
    assert factors[2] is not None
    assert factors[2] < 1.5
    near[:, 0] = near[:, 1]
    assert inflation(near) == [None] * 10


def test_the_smallest_correlation_that_is_found_is_found_four_times_of_five() -> None:
    n, tests = 154, 140
    least = detectable(n, tests, 0.05)
    assert least is not None
    draw = np.random.default_rng(5)
    x = draw.normal(size=(4000, n))
    y = least * x + math.sqrt(1 - least**2) * draw.normal(size=x.shape)
    r = np.array([stats.pearsonr(a, b).pvalue for a, b in zip(x, y, strict=True)])
    assert np.mean(r < 0.05 / tests) == pytest.approx(0.8, abs=0.05)
    assert detectable(4, 10, 0.05) is None
