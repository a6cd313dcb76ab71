"""Tests of `unharm.analysis.agreement`."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from support.quality_helpers import LEVELS, pairs, total
from unharm.analysis.agreement import (
    alpha,
    by_cluster,
    coincidence_parts,
    correlation,
    interval_alpha,
    interval_parts,
    kappa,
    moment_parts,
    resampled,
    table_parts,
)

X = math.nan


PUBLISHED = np.array(
    [[1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
     [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
     [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
     [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X]]
).T  # fmt: skip
"""Four observers, twelve units (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011)."""


def test_alpha_is_that_of_the_published_example() -> None:
    parts = total(coincidence_parts(PUBLISHED, LEVELS))
    assert alpha(parts, 5, ordinal=False)[0] == pytest.approx(0.743, abs=5e-4)
    assert alpha(parts, 5, ordinal=True)[0] == pytest.approx(0.815, abs=5e-4)
    assert interval_alpha(total(interval_parts(PUBLISHED)))[0] == pytest.approx(0.849, abs=5e-4)


@given(pairs)
def test_kappa_is_that_of_the_library(some: list[tuple[float, float]]) -> None:
    one, other = (np.array(column) for column in zip(*some, strict=True))
    found = kappa(total(table_parts(one, other, LEVELS)), LEVELS)[0]
    several = len(set(one) | set(other)) > 1
    expected = cohen_kappa_score(one, other, weights="quadratic", labels=LEVELS) if several else math.nan
    assert found == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=40))
def test_rank_correlation_is_that_of_the_library(some: list[tuple[float, float]]) -> None:
    one, other = (np.array(column) for column in zip(*some, strict=True))
    found = correlation(total(moment_parts(stats.rankdata(one), stats.rankdata(other))))[0]
    both_vary = len(set(one)) > 1 and len(set(other)) > 1
    expected = stats.spearmanr(one, other).statistic if both_vary else math.nan
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_resampling_whole_prompts_is_wider_where_they_are_alike() -> None:
    draw = np.random.default_rng(1)
    quality = draw.random(60)
    clusters = np.repeat(np.arange(60), 10)
    agree = (draw.random(600) < quality[clusters]).astype(float)
    other = np.zeros(600)

    def share(clusters: np.ndarray) -> tuple[float, float]:
        sums = by_cluster(clusters, lambda a, b: table_parts(a, b, np.array([0.0, 1.0])), agree, other)
        found = resampled(sums, lambda s: s[:, 2] / s.sum(axis=1), 0.95, 3, 600)
        assert found.low is not None
        assert found.high is not None
        return found.low, found.high

    alone, together = share(np.arange(600)), share(clusters)
    exact = 1.96 * math.sqrt(agree.mean() * (1 - agree.mean()) / 600)
    assert alone[1] - alone[0] == pytest.approx(2 * exact, rel=0.1)
    by_prompt = 1.96 * agree.reshape(60, 10).mean(axis=1).std(ddof=1) / math.sqrt(60)
    assert together[1] - together[0] == pytest.approx(2 * by_prompt, rel=0.1)


def test_rows_are_taken_in_parts_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    x, clusters = draw.random(1000), draw.integers(0, 50, 1000)
    whole = by_cluster(clusters, moment_parts, x, x * x)
    monkeypatch.setattr("unharm.analysis.agreement.ROWS", 77)
    assert np.allclose(by_cluster(clusters, moment_parts, x, x * x), whole)
