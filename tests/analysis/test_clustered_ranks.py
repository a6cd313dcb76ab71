"""Rank correlations over near copies, with ties, and their permutation p."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from unharm.analysis.clustered_ranks import (
    FEW_TARGETS,
    associate,
    effective_count,
    least_p,
    permuted,
    standard_ranks,
)
from unharm.analysis.intervals import adjusted
from unharm.analysis.simulated_study import survey_like_profiles
from unharm.profiles.extreme import TARGETS, extreme

EXTREMES = np.array([extreme(name).importances for name in TARGETS])


def test_without_near_copies_it_is_spearmans() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.uniform(1, 6, (60, 10)), draw.normal(size=(60, 3))
    found = associate(x, y, np.arange(60), ["a", "a", "b"], 0.95, 1)
    expected = stats.spearmanr(x[:, 2], y[:, 1])
    assert found.r[2, 1] == pytest.approx(expected.statistic)
    assert found.p[2, 1] == pytest.approx(expected.pvalue, rel=1e-6)


def test_no_p_of_the_extremes_lies_below_what_their_ties_allow() -> None:
    y = EXTREMES[:, [4]] + np.linspace(0, 0.1, 14)[:, None]
    found = associate(EXTREMES, y, np.arange(14), ["a"], 0.95, 1)
    assert least_p(EXTREMES[:, 4]) == pytest.approx(1 / 91)
    assert np.nanmin(found.p) >= 1 / 91 - 1e-12
    assert found.r[4, 0] < 0.62


def test_permutations_with_ties_are_all_orders() -> None:
    x, y = np.array([[1.0], [1], [6], [6], [1]]), np.array([[0.1], [0.4], [0.9], [0.5], [0.2]])
    rx, ry = standard_ranks(x), standard_ranks(y)
    r = rx.T @ ry / 5
    orders = [
        abs(np.array(o) @ ry[:, 0]) >= abs(rx[:, 0] @ ry[:, 0]) - 1e-9 for o in permutations(rx[:, 0])
    ]
    assert permuted(rx, ry, r, 1)[0, 0] == pytest.approx(np.mean(orders))


def test_near_copies_that_share_their_harm_make_no_discovery() -> None:
    importances, targets = survey_like_profiles(2)
    clusters = np.unique(targets, return_inverse=True)[1]
    draw = np.random.default_rng(3)
    false = {"weighted": 0, "plain": 0}
    for seed in range(40):
        common = draw.normal(size=(14, 20))[clusters]
        y = np.sqrt(0.5) * common + np.sqrt(0.5) * draw.normal(size=(154, 20))
        found = associate(importances, y, clusters, ["a"] * 20, 0.95, seed)
        alone = associate(importances, y, np.arange(154), ["a"] * 20, 0.95, seed)
        false["weighted"] += min(adjusted(found.p.ravel().tolist())) <= 0.05
        false["plain"] += min(adjusted(alone.p.ravel().tolist())) <= 0.05
    assert false["weighted"] <= 6
    assert false["plain"] >= 30
    assert found.shared.mean() == pytest.approx(0.5, abs=0.15)


def test_few_targets_give_no_p() -> None:
    x, y = np.random.default_rng(1).uniform(1, 6, (22, 10)), np.arange(22.0)[:, None]
    found = associate(x, y, np.repeat([0, 1], 11), ["a"], 0.95, 1)
    assert found.note == FEW_TARGETS
    assert np.isnan(found.p).all()


def test_the_effective_number_lies_between_targets_and_profiles() -> None:
    clusters = np.repeat(np.arange(14), 11)
    assert effective_count(clusters, 0.0) == 154
    assert effective_count(clusters, 1.0) == pytest.approx(14)
