"""Tests of `unharm.analysis.correlations`."""

from __future__ import annotations

import numpy as np
import pytest

from support.findings_helpers import people
from unharm.analysis.correlations import (
    axes,
    detectable,
    highest_correlation,
    inflation,
    on_axes,
    ridge,
)
from unharm.core.values import VALUES
from unharm.profiles.extreme import TARGETS, extreme


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
    found, flat = on_axes(importances, np.stack([harm, np.ones(200)], axis=1), np.arange(200), 0.0, 0.95)
    assert found is not None
    assert flat is None
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
    assert on_axes(importances[:5], harm[:5, None], np.arange(5), 0.0, 0.95) == [None]


def test_ridge_orders_the_values_and_inflation_tells_their_collinearity() -> None:
    importances = people(150)
    own = importances - importances.mean(axis=1, keepdims=True)
    power = VALUES.index("power")
    harm = own[:, power] + np.random.default_rng(1).normal(0, 0.5, 150)
    (found,) = ridge(importances, harm[:, None])
    assert found is not None
    assert max(range(10), key=lambda n: found[n].value) == power
    assert (found[power].low, found[power].p) == (None, None)
    assert ridge(importances[:8], harm[:8, None]) == [None]
    near = importances.copy()
    near[:, 0] = near[:, 1] + np.random.default_rng(2).normal(0, 0.1, 150)
    factors = inflation(near)
    assert factors[0] is not None
    assert factors[0] > 50
    assert factors[2] is not None
    assert factors[2] < 1.5
    near[:, 0] = near[:, 1]
    assert inflation(near) == [None] * 10


def test_ties_limit_what_can_be_detected() -> None:
    extremes = np.array([extreme(n).importances for n in TARGETS])
    assert detectable(extremes, 14, 330, 0.05) is None
    assert highest_correlation(extremes[:, 0]) == pytest.approx(0.62, abs=0.02)
    assert detectable(people(154), 5, 330, 0.05) is None
    found = detectable(people(154), 154, 330, 0.05)
    assert found is not None
    assert 0.3 < found < 0.45
