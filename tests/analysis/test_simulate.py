"""Tests of `unharm.analysis.simulate`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from support.findings_helpers import people
from unharm.analysis.metrics import benchmark_metrics
from unharm.analysis.simulate import (
    PAPER,
    Bench,
    World,
    score_table,
    simulated,
    smaller,
)
from unharm.core.values import VALUES


def test_simulated_tables_go_through_the_metrics() -> None:
    benches = smaller(PAPER, 0.01)
    for name, bench in benches.items():
        vanilla, aligned, categories = simulated(people(3), name, bench, World(), 1)
        found = benchmark_metrics(score_table(vanilla, categories), bench.scale, 0.95)
        without = int(np.isnan(vanilla).all(axis=1).sum())
        assert found[0][2].n == len(categories) - without
        assert aligned.shape == (3, len(categories), bench.samples)
        low, high = {"hexphi": (1, 5)}.get(name, (0, 1))
        assert low <= np.nanmin(aligned) <= np.nanmax(aligned) <= high
        assert np.isnan(aligned).mean() < 0.05


def test_planted_correlations_are_there() -> None:
    importances = people(154)
    world = World(planted={("beavertails", "c", "power"): 0.6}, unscored=0.0)
    bench = Bench("flagged", {"c": 200, "d": 200})
    found = []
    for seed in range(15):
        _, aligned, categories = simulated(importances, "beavertails", bench, world, seed)
        harm = np.nanmean(aligned[:, categories == "c"], axis=(1, 2))
        found.append(stats.spearmanr(importances[:, VALUES.index("power")], harm).statistic)
    assert np.mean(found) == pytest.approx(0.55, abs=0.06)
