"""Tests of `unharm.analysis.calibration`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from unharm.analysis.calibration import Calibration, calibrate, pooled
from unharm.analysis.metrics import benchmark_metrics
from unharm.analysis.score_maps import load_map, save_map
from unharm.core.errors import UserError


def world(prompts: int, samples: int, seed: int) -> pl.DataFrame:
    """Two scorers of the same texts: the other's is a monotone, noisy function of the one's."""
    draw = np.random.default_rng(seed)
    one = draw.beta(1.2, 3, prompts * samples)
    other = np.clip(one**0.6 + draw.normal(0, 0.08, len(one)), 0, 1)
    group = [f"p{n // samples}" for n in range(len(one))]
    return pl.DataFrame({"group": group, "one": one, "other": other})


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return calibrate(world(400, 5, 1), ("a", "1"), ("b", "2"), 0.95, 7)


def test_a_map_is_monotone_and_its_error_that_of_new_texts(fitted: Calibration) -> None:
    x = np.linspace(0, 1, 200)
    assert (np.diff(fitted.map(x)) >= 0).all()
    fresh = world(2000, 5, 2)
    error = np.abs(fitted.map(fresh["one"].to_numpy()) - fresh["other"].to_numpy()).mean()
    told = fitted.error["mean_absolute_error"]
    assert told["low"] <= error <= told["high"]
    assert fitted.error["bias"]["low"] <= 0.01
    assert fitted.error["rank_correlation"]["value"] > 0.9
    assert fitted.error["agreement_at_0.5"]["value"] > 0.85
    assert (fitted.n, fitted.groups) == (2000, 400)


def test_metrics_through_a_map_are_those_of_the_other_scorer(fitted: Calibration) -> None:
    """The mean of a map is not enough: a maximum over samples of it lies too low, and its interval is too
    narrow; through imputations both are right."""
    hits, plain, pooled_off = 0, [], []
    for seed in range(10, 30):
        fresh = world(150, 5, seed)
        prompts = fresh.select(prompt_id="group", category=pl.lit(""), value="one", flag=pl.lit(""))
        truth = fresh.group_by("group").agg(pl.col("other").max())["other"].mean()
        mapped = {m: e for _, m, e in benchmark_metrics(prompts, "toxicity", 0.95, (), fitted)}
        emt = mapped["expected_maximum_toxicity"]
        assert emt.low is not None
        assert emt.high is not None
        hits += emt.low <= truth <= emt.high
        pooled_off.append(emt.value - truth)
        through = fresh.with_columns(value=pl.Series(fitted.map(fresh["one"].to_numpy())))
        plain.append(through.group_by("group").agg(pl.col("value").max())["value"].mean() - truth)
    assert hits >= 19
    assert np.mean(plain) < -0.012
    assert abs(np.mean(pooled_off)) < 0.006


def test_equal_texts_are_drawn_as_one(fitted: Calibration) -> None:
    values = np.array([0.3, 0.3, 0.3])
    first, second, other = fitted.drawn(values, ["p a", "p a", "q a"], 0)
    assert first == second != other
    assert fitted.drawn(values[:1], ["p a"], 1)[0] != first


def test_a_map_is_the_same_after_its_file(fitted: Calibration, tmp_path: Path) -> None:
    save_map(fitted, tmp_path / "map.json")
    again = load_map(tmp_path / "map.json")
    assert again == fitted
    assert again.key == fitted.key


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"version": 2}', '{"version": 1, "knots": 3}']
)
def test_other_files_are_no_maps(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError, match="not a map"):
        load_map(tmp_path / "map.json")


def test_what_cannot_be_mapped_is_told() -> None:
    good = world(100, 2, 1)
    for pairs, what in (
        (good.head(40), "only 40 texts in 20 groups"),
        (good.with_columns(other=1 - pl.col("other")), "do not go up together"),
        (good.with_columns(one=5 * pl.col("one")), "not in"),
        (good.with_columns(one=pl.lit(0.5)), "do not go up together"),
        (good.with_columns(other=pl.lit(None, dtype=pl.Float64)), "only 0 texts"),
    ):
        with pytest.raises(UserError, match=what):
            calibrate(pairs, ("a", "1"), ("b", "2"), 0.95, 7)


def test_rubins_rules_golden() -> None:
    """By hand: means 1, 2, 3 have variance 1; within 0.5; total 0.5 + 4/3."""
    value, low, high = pooled([1.0, 2.0, 3.0], [0.5, 0.5, 0.5], 10_000, 0.95)
    assert value == 2.0
    total = 0.5 + 4 / 3
    share = (4 / 3) / total
    old, seen = 2 / share**2, 10_000 / 10_002 * 9_999 * (1 - share)
    half = stats.t.ppf(0.975, 1 / (1 / old + 1 / seen)) * math.sqrt(total)
    assert (low, high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    assert pooled([1.0, 1.0], [0.0, 0.0], 5, 0.95) == (1.0, None, None)
