"""Tests of `unharm.analysis.bridge`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unharm.analysis.bridge import Bridge, fit_bridge
from unharm.analysis.calibration import IMPUTATIONS
from unharm.analysis.metrics import benchmark_metrics
from unharm.analysis.score_maps import load_map, save_map
from unharm.core.errors import UserError

CHANCE = {0.0: 0.06, 1.0: 0.75}
"""How often the old guard flags what the new one does not, and does."""


def guards(arm: str, harm: float, shift: float, count: int, seed: int) -> pl.DataFrame:
    """Texts of an arm under two guards. The truth of the old one is known: see `CHANCE`."""
    draw = np.random.default_rng(seed)
    one = (draw.random(count) < harm) * 1.0
    chance = np.where(one > 0, CHANCE[1.0], CHANCE[0.0]) + shift
    other = (draw.random(count) < chance) * 1.0
    group = [f"p{n}" for n in range(count)]
    return pl.DataFrame({"arm": arm, "group": group, "one": one, "other": other})


def bridge(pairs: pl.DataFrame, seed: int = 0, measures: str = "flagged") -> Bridge:
    return fit_bridge(pairs, ("new", "1"), ("old", "2"), measures, seed=seed)


def mapped(fitted: Bridge, arm: str, values: np.ndarray, measures: str = "flagged") -> tuple[float, float]:
    scores = pl.DataFrame(
        {"prompt_id": [f"p{n}" for n in range(len(values))], "category": "", "value": values, "flag": ""}
    )
    estimate = benchmark_metrics(scores, measures, 0.95, (), fitted.for_arm(arm))[0][2]
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def test_mapped_rates_cover_the_old_scorers_rate_and_shifts_are_found() -> None:
    """bench/pilot.py measures both over hundreds of studies."""
    hits = {"vanilla": 0, "same": 0, "shifted": 0}
    found = {"same": 0, "shifted": 0}
    studies = 6
    for seed in range(studies):
        arms = {"vanilla": (0.15, 0.0), "same": (0.4, 0.0), "shifted": (0.4, 0.08)}
        worlds = {arm: guards(arm, *how, 1500, 10 * seed + n) for n, (arm, how) in enumerate(arms.items())}
        fitted = bridge(
            pl.concat([w.head(900 if a == "vanilla" else 700) for a, w in worlds.items()]), seed
        )
        for arm, (harm, shift) in arms.items():
            low, high = mapped(fitted, arm, worlds[arm]["one"].to_numpy())
            hits[arm] += low <= harm * CHANCE[1.0] + (1 - harm) * CHANCE[0.0] + shift <= high
            if arm in found:
                found[arm] += fitted.arms[arm].shifted
    assert min(hits.values()) >= studies - 1, hits
    assert found["shifted"] == studies
    assert found["same"] <= 2


def test_the_shift_is_the_mean_residual_from_vanillas_rates() -> None:
    pairs = pl.concat([guards("vanilla", 0.2, 0.0, 600, 1), guards("vim", 0.5, 0.1, 600, 2)])
    test = bridge(pairs).arms["vim"]
    rates = dict(pairs.filter(arm="vanilla").group_by("one").agg(pl.col("other").mean()).iter_rows())
    vim = pairs.filter(arm="vim")
    assert test.shift == pytest.approx((vim["other"] - vim["one"].replace_strict(rates)).mean(), abs=1e-12)
    assert test.low is not None
    assert test.high is not None
    assert test.low < test.shift < test.high
    assert test.detectable == pytest.approx((test.high - test.low) / 2 / 1.96 * 3.24, rel=0.01)


def test_a_judges_scale_is_kept_and_its_share_of_5_is_right() -> None:
    draw = np.random.default_rng(3)
    one = draw.random(1200)
    other = np.clip(np.round(1 + 4 * one + draw.normal(0, 0.7, 1200)), 1, 5)
    pairs = pl.DataFrame(
        {"arm": "vanilla", "group": [f"p{n}" for n in range(1200)], "one": one, "other": other}
    )
    fitted = bridge(pairs, measures="harmfulness")
    drawn = fitted.for_arm("vanilla").drawn(one, [f"{n}" for n in range(1200)], 0)
    assert set(drawn) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert (drawn == 5).mean() == pytest.approx((other == 5).mean(), abs=0.03)
    assert drawn.mean() == pytest.approx(other.mean(), abs=0.08)


def test_an_arm_that_was_not_tested_gets_vanillas_map() -> None:
    fitted = bridge(guards("vanilla", 0.2, 0.0, 300, 1))
    values, keys = np.array([0.0, 1.0] * 50), [f"{n}" for n in range(100)]
    assert (
        fitted.for_arm("icl").drawn(values, keys, 3) == fitted.for_arm("vanilla").drawn(values, keys, 3)
    ).all()
    assert fitted.untested(["vanilla", "icl"]) == ["icl"]


def test_an_arm_with_few_texts_is_counted_and_not_tested() -> None:
    pairs = pl.concat([guards("vanilla", 0.2, 0.0, 300, 1), guards("vim", 0.2, 0.0, 20, 2)])
    unscored = pl.DataFrame({"arm": "vim", "group": "p0", "one": [None, 1.0], "other": [0.0, None]})
    fitted = bridge(pl.concat([pairs, unscored]))
    assert (fitted.arms["vim"].texts, fitted.arms["vim"].unscored) == (20, 2)
    assert fitted.arms["vim"].p is None
    assert fitted.untested(list(fitted.arms)) == ["vim"]


def test_a_map_survives_its_file(tmp_path: Path) -> None:
    fitted = bridge(pl.concat([guards("vanilla", 0.2, 0.0, 300, 1), guards("vim", 0.4, 0.05, 300, 2)]))
    save_map(fitted, tmp_path / "map.json")
    again = load_map(tmp_path / "map.json")
    assert again == fitted
    assert again.key == fitted.key


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (guards("vanilla", 0.2, 0.0, 30, 1), "only 30 texts of 30 prompts of the arm 'vanilla'"),
        (guards("vim", 0.2, 0.0, 300, 1), "only 0 texts"),
        (guards("vanilla", 0.2, 0.0, 300, 1).with_columns(one=0.0), "do not vary"),
        (guards("vanilla", 0.2, 0.0, 300, 1).with_columns(one=1 - pl.col("one")), "do not go up together"),
    ],
)
def test_pairs_without_a_map_are_one_message(pairs: pl.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bridge(pairs)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(60, 200), st.sampled_from([2, 5, 1000]))
def test_what_is_drawn_was_said_by_the_old_scorer(seed: int, count: int, levels: int) -> None:
    draw = np.random.default_rng(seed)
    one = draw.integers(0, levels, count) / (levels - 1)
    other = np.round(np.clip(one + draw.normal(0, 0.2, count), 0, 1), 2)
    arm = np.where(np.arange(count) % 5, "vanilla", "vim")
    group = [f"p{n}" for n in range(count)]
    try:
        fitted = bridge(pl.DataFrame({"arm": arm, "group": group, "one": one, "other": other}))
    except UserError:
        return
    assert (np.diff(fitted.centres) > 0).all()
    for number in (0, IMPUTATIONS - 1):
        drawn = fitted.for_arm("vim").drawn(draw.random(40), [f"{n}" for n in range(40)], number)
        assert set(np.round(drawn, 6)) <= set(np.round(other, 6))
