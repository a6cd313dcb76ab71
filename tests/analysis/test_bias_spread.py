"""The spread between groups: golden figures, rises with bias where ROBBIE's score falls, holds its level."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.analysis.bias import bias_score
from unharm.analysis.bias_spread import LEAST_GROUPS, bias_spread, raised_groups


def counts_of(rates: list[float], n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    size = np.full(len(rates), n)
    return np.random.default_rng(seed).binomial(size, rates), size


def robbie(negative: np.ndarray, n: np.ndarray) -> float:
    rows = [
        {"axis": "a", "group": f"g{g}", "value": float(i < x)}
        for g, (x, size) in enumerate(zip(negative, n, strict=True))
        for i in range(size)
    ]
    value = bias_score(pl.DataFrame(rows), 0.95).score.value
    assert value is not None
    return value


def test_golden_spread() -> None:
    """By hand, groups of 4 and 4 with 1 and 3 negative: W = (0.75 + 0.75)/6, B = 4 (1/16 + 1/16), n₀ = 4,
    so that the square of the spread is (0.5 − 0.25)/4. Sizes of 2 and 6, 2 and 1 negative: W = (5/6)/6,
    B = 2 + 1/6 − 9/8, n₀ = 8 − 40/8."""
    assert bias_spread(np.array([1, 3]), np.array([4, 4]), 0.95).value == pytest.approx(0.25)
    uneven = bias_spread(np.array([2, 1]), np.array([2, 6]), 0.95)
    assert uneven.value == pytest.approx(np.sqrt((2 + 1 / 6 - 9 / 8 - 5 / 36) / 3))
    assert (uneven.low, uneven.high, uneven.n, uneven.unit) == (None, None, 2, "group")


def test_bias_scores_higher_than_none_where_the_robbie_score_falls() -> None:
    biased = counts_of([0.40] * 40 + [0.025] * 160, 10, 1)
    alike = counts_of([0.30] * 200, 10, 2)
    spread, none = bias_spread(*biased, 0.95), bias_spread(*alike, 0.95)
    assert spread.value == pytest.approx(0.15, abs=0.02)
    assert none.low == 0.0
    assert spread.low is not None
    assert none.high is not None
    assert spread.low > none.high
    assert robbie(*biased) < 0.5 < 0.8 < robbie(*alike)


def test_the_expected_square_is_that_of_the_true_rates() -> None:
    """Unbiased at rare harm and unequal sizes: the mean over draws of the unclipped square."""
    draw = np.random.default_rng(3)
    size = draw.integers(2, 30, 400)
    values = [
        bias_spread(draw.binomial(size, draw.beta(0.5, 9.5, 400)), size, 0.95).value for _ in range(60)
    ]
    true = 0.05 * 0.95 / 11
    assert np.mean(np.square(np.array(values, dtype=float))) == pytest.approx(true, rel=0.06)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_the_interval_reaches_0_where_groups_are_alike(rate: float) -> None:
    above = 0
    for seed in range(200):
        low = bias_spread(*counts_of([rate] * 60, 10, seed), 0.95).low
        above += low is not None and low > 0
    assert above <= 10 + 2 * 3.1


def test_what_cannot_be_told_has_no_number() -> None:
    ones = np.ones(5, dtype=int)
    assert bias_spread(ones, ones, 0.95).value is None
    assert bias_spread(ones[:1], ones[:1] * 9, 0.95).value is None
    equal = bias_spread(np.zeros(20, dtype=int), np.full(20, 5), 0.95, unscored=7)
    assert (equal.value, equal.low, equal.high, equal.unscored) == (0.0, None, None, 7)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=30))
def test_the_interval_holds_the_value_and_stays_in_range(rows: list[tuple[int, int]]) -> None:
    n = np.array([size for _, size in rows], dtype=int)
    x = np.minimum(np.array([count for count, _ in rows], dtype=int), n)
    spread = bias_spread(x, n, 0.95)
    assert spread.n == len(rows)
    if spread.low is not None and spread.high is not None and spread.value is not None:
        assert len(rows) >= LEAST_GROUPS
        assert 0 <= spread.low <= spread.value <= spread.high
    elif spread.value is not None:
        assert spread.value >= 0


def test_raised_groups_are_listed() -> None:
    """By hand: the bound of 10 of 10 is 0.025^(1/10); 2 of 10 lie at the background."""
    groups = pl.DataFrame({"group": ["often", "at it", "never"], "negative": [10, 2, 0], "n": [10, 10, 10]})
    marked = raised_groups(groups, 0.2, 0.95)
    assert marked["raised"].to_list() == [True, False, False]
    assert marked["lower"].to_list() == pytest.approx([0.025 ** (1 / 10), 0.0252107, 0.0], abs=1e-6)
    assert marked["p_adjusted"][0] == pytest.approx(3 * 0.2**10)
    assert set(marked["background"]) == {0.2}


def test_few_groups_are_marked_where_all_are_alike() -> None:
    negative, n = counts_of([0.3] * 1_000, 10, 5)
    groups = pl.DataFrame({"negative": negative, "n": n})
    assert raised_groups(groups, 0.3, 0.95)["raised"].sum() == 0
    assert raised_groups(groups.clear(), 0.0, 0.95).height == 0


def test_rates_that_happen_to_be_alike_do_not_exclude_a_spread() -> None:
    """24 groups of three completions: their rates lie less far apart than noise alone would have it."""
    negative = np.array([1] * 20 + [0, 2, 1, 1])
    estimate = bias_spread(negative, np.full(24, 3), 0.95)
    assert estimate.value == 0
    assert estimate.low is None or estimate.low == 0
    assert estimate.high is None or estimate.high > 0.01
