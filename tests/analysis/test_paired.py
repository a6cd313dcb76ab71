"""Differences of arms: the same cells on both sides, coverage where harm is rare, near copies and seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.analysis.paired import TOO_FEW, Rows, differences, means
from unharm.analysis.simulated_study import (
    Regime,
    SimulatedBench,
    simulate_bench,
    survey_like_profiles,
)

SHARE = (0.0, 1.0)


def single(values: list[float]) -> Rows:
    return Rows(np.array([values]), ("",), ("",), (0,))


def several(values: np.ndarray) -> Rows:
    names = tuple(f"x{n}" for n in range(len(values)))
    return Rows(values, names, names, (0,) * len(names))


def test_a_single_subject_counts_on_the_same_cells() -> None:
    vanilla = single([0.0, 1.0, 0.0, 1.0] * 3)
    arm = np.array([[1.0, 1.0, 0.0, np.nan] * 3, [1.0] * 12])
    found = differences(several(arm), vanilla, [np.ones(12, dtype=bool)], SHARE, 0.95)[0]
    paired = np.where(np.isfinite(arm), arm - vanilla.values, np.nan)
    assert found.value == pytest.approx(np.nanmean(paired))
    assert (found.cells, found.prompts, found.profiles) == (21, 12, 2)


def test_few_prompts_have_no_interval_and_say_why() -> None:
    found = differences(single([1.0] * 9), single([0.0] * 9), [np.ones(9, dtype=bool)], SHARE, 0.95)[0]
    assert (found.value, found.low, found.p, found.note) == (1.0, None, None, TOO_FEW)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.4, 1.0]), min_size=1, max_size=3))
def test_equal_numbers_have_wide_finite_intervals(levels: list[float]) -> None:
    """All prompts of a category alike: nothing is known of their variance, so the largest possible is."""
    values = np.repeat(levels, 20)
    masks = [np.arange(len(values)) // 20 == n for n in range(len(levels))]
    for level, mean in zip(levels, means(single(values.tolist()), masks, SHARE, 0.95), strict=True):
        assert mean.value is not None
        assert mean.value == pytest.approx(level)
        assert mean.low is not None
        assert mean.high is not None
        assert 0 <= mean.low <= mean.value <= mean.high <= 1
        assert mean.high - mean.low > 0.1
    for change in differences(
        several(np.stack([values] * 3)), single([0.25] * len(values)), masks, SHARE, 0.95
    ):
        assert change.low is not None
        assert change.high is not None
        assert -1 <= change.low <= change.high <= 1


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_a_category_without_a_hit_has_an_interval_whatever_the_others_vary(seed: int) -> None:
    """Prompts of the first category differ by no more than chance: the pooled variance is 0, or nearly."""
    draws = np.random.default_rng(seed).random((12, 40)) < 0.5
    values = np.concatenate([draws.astype(float), np.zeros((12, 20))], axis=1)
    masks = [np.arange(60) < 40, np.arange(60) >= 40]
    chance, none = means(several(values), masks, SHARE, 0.95)
    assert chance.low is not None
    assert none.high is not None
    assert none.low == none.value == 0
    assert 3 / 240 < none.high < 0.2  # no hit in 240 completions: about three are not ruled out
    for change in differences(several(values), single([0.0] * 60), masks, SHARE, 0.95):
        assert change.low is not None
        assert change.high is not None
        assert change.low <= (change.value or 0) <= change.high


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=10, max_size=40))
def test_intervals_stay_in_the_possible_range_and_agree_with_p(pairs: list[tuple[bool, bool]]) -> None:
    one, other = single([float(a) for a, _ in pairs]), single([float(b) for _, b in pairs])
    found = differences(one, other, [np.ones(len(pairs), dtype=bool)], SHARE, 0.95)[0]
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.p is not None
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    outside = found.low > 1e-9 or found.high < -1e-9
    assert outside == (found.p < 0.05) or abs(found.p - 0.05) < 1e-3


@pytest.mark.parametrize(
    "regime",
    [
        Regime(base=0.01),
        Regime(base=0.1, share=0.5),
        Regime(base=0.1, seeds=3, seed_effect=0.2),
    ],
)
def test_intervals_by_category_cover_the_truth(regime: Regime) -> None:
    bench = SimulatedBench("flagged", {f"c{n}": 50 for n in range(14)})
    importances, targets = survey_like_profiles(1)
    hits, of_arm, empty = [], [], []
    for seed in range(30):
        scores = simulate_bench(importances, targets, "b", bench, regime, seed)
        profiles, seeds, prompts = scores.aligned.shape
        arm = Rows(
            scores.aligned.reshape(-1, prompts),
            tuple(np.repeat(targets, seeds)),
            tuple(f"x{n // seeds}" for n in range(profiles * seeds)),
            tuple(range(seeds)) * profiles,
        )
        vanilla = single(np.nanmean(scores.vanilla, axis=1).tolist())
        masks = [scores.categories == c for c in bench.categories]
        found = differences(arm, vanilla, masks, SHARE, 0.95)
        for name, one, mean in zip(bench.categories, found, means(arm, masks, SHARE, 0.95), strict=True):
            assert one.low is not None
            assert one.high is not None
            assert mean.low is not None
            assert mean.high is not None
            truth = scores.true_aligned[name] - scores.true_vanilla[name]
            hits.append(one.low <= truth <= one.high)
            of_arm.append(mean.low <= scores.true_aligned[name] <= mean.high)
            if one.other == 0:
                empty.append(hits[-1])
    assert 0.92 <= np.mean(hits) <= 0.998
    assert 0.92 <= np.mean(of_arm) <= 0.995
    assert not empty or np.mean(empty) >= 0.9
