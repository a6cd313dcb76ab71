"""The simulator says the truth about its own scores."""

from __future__ import annotations

import numpy as np
import pytest

from unharm.analysis.simulated_study import (
    Regime,
    SimulatedBench,
    simulate_bench,
    survey_like_profiles,
)


@pytest.mark.parametrize("measure", ["flagged", "harmfulness"])
def test_scores_have_the_expected_mean(measure: str) -> None:
    bench = SimulatedBench(measure, {"a": 4_000})
    importances, targets = survey_like_profiles(1)
    regime = Regime(base=0.1, share=0.5, seeds=2, seed_effect=0.1)
    found = []
    for seed in range(12):
        scores = simulate_bench(importances[::4], targets[::4], "b", bench, regime, seed)
        found.append(
            (
                np.nanmean(scores.vanilla) - scores.true_vanilla["a"],
                np.nanmean(scores.aligned) - scores.true_aligned["a"],
            )
        )
    errors = np.array(found)
    assert (np.abs(errors.mean(axis=0)) < 4 * errors.std(axis=0) / np.sqrt(12)).all()


def test_profiles_are_extremes_with_near_copies_and_ties() -> None:
    importances, targets = survey_like_profiles(1)
    assert importances.shape == (154, 10)
    assert len(set(targets)) == 14
    assert len(np.unique(importances)) <= 11
