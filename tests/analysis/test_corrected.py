"""Tests of `unharm.analysis.corrected` and `labelled_rates`."""

from __future__ import annotations

import numpy as np
import pytest

from support.paths import ROOT
from unharm.analysis.corrected import (
    Corrected,
    corrected_difference,
    corrected_rate,
    rogan_gladen,
)
from unharm.analysis.labelled_rates import Labelled, beta_limits, bins_of
from unharm.analysis.paired import Rows
from unharm.analysis.scorer_errors import p_equal, scorer_errors

GROUPS = ((0,), (1,))


def arm(verdicts: np.ndarray, truth: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> Corrected:
    """The corrected rate of one subject with one completion per prompt."""
    labelled = Labelled(
        verdicts[chosen].astype(int), np.zeros(len(chosen), int), chosen, truth[chosen], weights
    )
    none = np.zeros_like(verdicts)
    shares = np.stack([1 - verdicts, verdicts, none, none], axis=1)[None]
    rate = corrected_rate(
        lambda make: Rows(make(shares), ("",), ("",), (0,)), labelled, bins_of(labelled, GROUPS)
    )
    assert rate is not None
    return rate


def study(seed: int, base: float, specificity: float, labels: int = 200) -> Corrected:
    """A subject of 2,000 prompts whose judge finds 70 % of the harm, with labels of half of each verdict."""
    draw = np.random.default_rng(seed)
    truth = (draw.random(2_000) < base).astype(float)
    verdicts = (draw.random(2_000) < np.where(truth > 0, 0.7, 1 - specificity)).astype(float)
    chosen, weights = [], []
    for level in (0, 1):
        places = np.flatnonzero(verdicts == level)
        count = min(labels // 2, len(places))
        chosen.append(draw.choice(places, count, replace=False))
        weights.append(np.full(count, len(places) / count))
    return arm(verdicts, truth, np.concatenate(chosen), np.concatenate(weights))


def test_the_estimate_equals_that_of_ppi_python() -> None:
    """Golden figures of ppi-python 0.2.3: ppi_mean_pointestimate and ppi_mean_ci with the weight that is
    best for a yes-or-no scorer, on labels that are drawn without regard to the verdict."""
    draw = np.random.default_rng(7)
    verdicts = (draw.random(2_000) < 0.2).astype(float)
    truth = (draw.random(2_000) < np.where(verdicts > 0, 0.6, 0.05)).astype(float)
    chosen = draw.choice(2_000, 200, replace=False)
    rate = arm(verdicts, truth, chosen, np.full(200, 10.0))
    assert rate.value == pytest.approx(0.16514812620352542, abs=1e-12)
    low, high = rate.limits(0.95)
    assert low == pytest.approx(0.12164, abs=0.008)  # theirs is symmetric, ours is not
    assert high == pytest.approx(0.20866, abs=0.008)
    assert high - low == pytest.approx(0.20866 - 0.12164, rel=0.05)


def test_with_all_labels_the_rate_is_the_truth() -> None:
    draw = np.random.default_rng(1)
    truth = (draw.random(300) < 0.2).astype(float)
    verdicts = (draw.random(300) < 0.3).astype(float)
    assert arm(verdicts, truth, np.arange(300), np.ones(300)).value == pytest.approx(truth.mean())


def test_nothing_harmful_among_the_labels_has_a_width() -> None:
    low, high = beta_limits(0.0, 100, 0.95)
    assert low == 0.0
    assert 0.02 < high < 0.04
    assert beta_limits(1.0, 100, 0.95) == pytest.approx((1 - high, 1.0))


def test_verdicts_with_few_labels_are_joined() -> None:
    levels = np.array([0] * 20 + [1] * 3 + [4] * 6)
    labelled = Labelled(levels, levels * 0, np.arange(29), np.linspace(0, 1, 29), np.ones(29))
    groups = tuple((n,) for n in range(5))
    assert [one.levels for one in bins_of(labelled, groups)] == [(0,), (1, 2, 3, 4)]
    assert bins_of(labelled, groups, join=False) == []
    assert bins_of(labelled.of(levels == 1), groups) == []


def test_a_shift_of_the_judge_alone_is_no_difference() -> None:
    """60 studies with a fixed seed: specificity 0.98 and 0.94 at equal rates of 10 %."""
    false = uneven = held = 0
    for seed in range(60):
        one, other = study(seed, 0.1, 0.94), study(1_000 + seed, 0.1, 0.98)
        found = corrected_difference(one, other, 0.95)
        false += found.p <= 0.05
        assert (found.p <= 0.05) == (not found.low <= 0 <= found.high)
        errors = scorer_errors(one), scorer_errors(other)
        assert errors[0] is not None
        assert errors[1] is not None
        p = p_equal(errors[0][1], errors[1][1])
        uneven += p is not None and p <= 0.05
        low, high = one.limits(0.95)
        held += low <= 0.1 <= high
    assert false <= 6
    assert held >= 54
    assert uneven >= 45


def test_a_true_difference_is_found() -> None:
    found = corrected_difference(study(1, 0.3, 0.96, 400), study(2, 0.1, 0.96, 400), 0.95)
    assert found.p < 0.001
    assert 0.1 < found.low < 0.2 < found.high < 0.3


def test_sensitivity_and_specificity_are_those_of_the_judge() -> None:
    errors = scorer_errors(study(5, 0.3, 0.9, 1_200))
    assert errors is not None
    for one, truth in zip(errors, (0.7, 0.9), strict=True):
        low, high = one.limits(0.95)
        assert low < truth < high
        assert one.share == pytest.approx(truth, abs=0.05)


def test_rogan_and_gladen_hold_where_the_errors_are_alike() -> None:
    arms = [study(1, 0.05, 0.95, 600), study(2, 0.2, 0.95, 600)]
    for rate, truth in zip(rogan_gladen(arms, 0.95, 3), (0.05, 0.2), strict=True):
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < truth < rate.high


def test_the_simulation_runs_on_the_tables_own_functions() -> None:
    text = (ROOT / "bench" / "labels.py").read_text()
    for name in ("corrected_rate", "corrected_difference", "bins_of", "allocation"):
        assert f"{name}(" in text
