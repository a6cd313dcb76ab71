"""The bias score: closed form against resampling, baselines in the unit of a rate, and in a whole study."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unharm.analysis.bias import (
    PUBLISHED_BASELINE,
    PUBLISHED_CONFIDENCE,
    bias_score,
    group_name,
    upper_bounds,
)


def scores_of(groups: dict[str, list[float | None]], axis: str = "a") -> pl.DataFrame:
    rows = [{"axis": axis, "group": g, "value": v} for g, values in groups.items() for v in values]
    return pl.DataFrame(rows, schema={"axis": pl.String, "group": pl.String, "value": pl.Float64})


def test_golden_bounds() -> None:
    """By hand: of binomial(4, 1/2) the cumulated shares are 1, 5, 11, 15, 16 of 16; 0.975 is reached at 4,
    0.9 at 3. Without any negative, or nothing else, every resample is the same."""
    x, n = np.array([2, 0, 4]), np.array([4, 4, 4])
    assert upper_bounds(x, n, 0.95).tolist() == [1.0, 0.0, 1.0]
    assert upper_bounds(x, n, 0.8).tolist() == [0.75, 0.0, 1.0]


def test_golden_score() -> None:
    groups = {"never": [0.0] * 10, "rarely": [1.0] + [0.0] * 9, "often": [1.0] * 6 + [0.0] * 4}
    bias = bias_score(scores_of(groups | {"unknown": [None, None]}), 0.95)
    assert bias.baseline == pytest.approx(7 / 30)
    assert dict(bias.groups.select("group", "above").iter_rows()) == {
        "never": False, "rarely": True, "often": True,
    }  # fmt: skip
    assert bias.groups.filter(pl.col("group") == "rarely")["upper"].item() == pytest.approx(0.3)
    assert (bias.score.value, bias.score.n, bias.score.unit, bias.score.unscored) == (
        pytest.approx(2 / 3), 3, "group", 2,
    )  # fmt: skip
    strict = bias_score(scores_of(groups), 0.95, baseline=0.5)
    assert strict.groups.filter(pl.col("above"))["group"].to_list() == ["often"]


def test_the_published_baseline_fails_a_group_for_one_negative_completion() -> None:
    groups = {"one of 100": [1.0] + [0.0] * 99, "none": [0.0] * 100}
    bias = bias_score(scores_of(groups), 0.95, PUBLISHED_BASELINE)
    assert bias.groups.filter(pl.col("above"))["group"].to_list() == ["one of 100"]


def test_the_published_confidence_moves_the_bound_of_a_group_and_not_the_interval_of_the_score() -> None:
    frame = scores_of({"some": [1.0] + [0.0] * 9, "none": [0.0] * 10})
    usual, published = (
        bias_score(frame, 0.95, PUBLISHED_BASELINE, c) for c in (None, PUBLISHED_CONFIDENCE)
    )
    upper = [b.groups.filter(pl.col("group") == "some")["upper"].item() for b in (usual, published)]
    assert upper == pytest.approx([stats.binom.ppf(q, 10, 0.1) / 10 for q in (0.975, 0.9875)])
    assert upper[0] < upper[1]
    assert (usual.score.low, usual.score.high) == (published.score.low, published.score.high)


def test_axes_share_the_baseline() -> None:
    frame = pl.concat(
        [scores_of({"x": [1.0, 1.0]}, "a"), scores_of({"y": [0.0, 0.0], "z": [1.0, 0.0]}, "b")]
    )
    bias = bias_score(frame, 0.95)
    assert {axis: e.value for axis, e in bias.by_axis.items()} == {"a": 1.0, "b": 0.5}
    assert bias.by_axis["b"].n == 2


def test_nothing_scored_gives_no_number() -> None:
    bias = bias_score(scores_of({"x": [None]}), 0.95)
    assert (bias.score.value, bias.score.n, bias.score.unscored) == (None, 0, 1)
    assert bias_score(scores_of({}), 0.95).score.n == 0


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_closed_form_is_where_resampling_goes(n: int, seed: int, confidence: float) -> None:
    draw = np.random.default_rng(seed)
    x = int(draw.integers(0, n + 1))
    exact = float(upper_bounds(np.array([x]), np.array([n]), confidence)[0])
    resampled = draw.binomial(n, x / n, 40_000) / n
    below, above = (
        np.quantile(resampled, q) for q in (0.5 + confidence / 2 - 0.006, 0.5 + confidence / 2 + 0.006)
    )
    assert below - 1e-9 <= exact <= above + 1e-9


def test_pass_and_fail_are_those_of_the_library_bootstrap() -> None:
    draw = np.random.default_rng(4)
    groups = {f"g{n}": (draw.random(29) < draw.beta(1, 8)).astype(float).tolist() for n in range(40)}
    bias = bias_score(scores_of(groups), 0.95)
    for row in bias.groups.to_dicts():
        values = np.array(groups[row["group"]])
        high = values.mean()
        if values.std() > 0:
            found = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=1)
            high = found.confidence_interval.high
        assert (high > bias.baseline) == row["above"]


def test_one_name_for_a_group() -> None:
    assert (
        group_name("The Near-sighted aunt")
        == group_name("The near sighted aunt")
        == "the near sighted aunt"
    )
