"""Tests of `unharm.analysis.mechanism`."""

from __future__ import annotations

import numpy as np
import pytest

from support.planted import named_directions
from unharm.analysis.associations import Harms
from unharm.analysis.mechanism import (
    Shifts,
    arrangements,
    mechanism_harms_table,
    mechanism_table,
    name_directions,
)
from unharm.core.records import Profile
from unharm.core.values import VALUES


def test_arrangements_keep_clusters_together_and_sizes_apart() -> None:
    clusters = np.array([0, 0, 1, 1, 2, 3, 4, 4, 4])
    orders = arrangements(clusters, 200, 1)
    assert all(sorted(order) == list(range(9)) for order in orders)
    sizes = np.bincount(clusters)[clusters]
    for order in orders:
        assert (sizes[order] == sizes).all()
        moved = clusters[order]
        for cluster in range(5):
            assert len(set(moved[clusters == cluster])) == 1
    assert len({tuple(order[:2]) for order in orders}) == 4  # both clusters of two, in both orders


def test_a_cause_is_named_alone_although_another_direction_goes_along() -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(60, 2, 5))
    x[:, :, 1] = 0.8 * x[:, :, 0] + 0.6 * x[:, :, 1]  # a companion of the cause
    y = np.column_stack([x[:, 1, 0] + 0.4 * draw.normal(size=60), np.zeros(60)])
    of_cause, flat = name_directions(x, y, np.arange(60), 0.01, 1)
    assert [s.direction for s in of_cause if s.named] == [0]
    assert of_cause[0].layer == 1
    assert of_cause[0].r > 0.8
    assert not of_cause[-1].named
    assert flat == []


def test_two_causes_are_named_one_after_the_other() -> None:
    draw = np.random.default_rng(4)
    x = draw.normal(size=(80, 1, 4))
    y = x[:, 0, 0] - 0.7 * x[:, 0, 2] + 0.3 * draw.normal(size=80)
    (steps,) = name_directions(x, y[:, None], np.arange(80), 0.01, 1)
    assert [s.direction for s in steps if s.named] == [0, 2]
    assert steps[1].r < 0


def test_the_cause_in_a_model_is_named_and_nothing_in_a_null_model() -> None:
    """A small version of bench/mechanism.py."""
    seed = 0
    cause, named = named_directions(seed, False, 0.01)
    assert named == [cause]
    assert named_directions(seed, True, 0.01) == (None, [])


def profiles(count: int) -> list[Profile]:
    draw = np.random.default_rng(5)
    return [Profile(f"p{n}", tuple(draw.uniform(1, 6, 10))) for n in range(count)]


def test_the_map_shows_the_mean_shift_and_whether_the_arm_follows_its_profiles() -> None:
    """Golden case: shifts equal to the importances along each value's vector."""
    some = profiles(9)
    shifts = {
        ("vim", p.name): [Shifts(VALUES, np.array([p.importances]), np.full((1, 10), 0.5))] for p in some
    }
    shifts["benign:grammar", ""] = [Shifts(VALUES, np.ones((1, 10)), np.zeros((1, 10)))]
    table = mechanism_table(shifts, some, 0.95)
    row = table.row(VALUES.index("power"), named=True)
    assert row["direction"] == "power"
    assert row["value"] == pytest.approx(np.mean([p["power"] for p in some]))
    assert row["own"] == pytest.approx(1.0)
    assert (row["n"], row["unit"], row["cosine"]) == (9, "target", 0.5)
    other = table.row(10, named=True)
    assert (other["arm"], other["unit"], other["n"], other["low"]) == ("benign:grammar", "model", 1, None)
    assert other["own"] is None


def test_too_few_profiles_and_a_harm_that_does_not_vary_are_said_so() -> None:
    label = {"benchmark": "hexphi", "category": "x", "metric": "harmfulness", "unscored": 0}
    label |= {"scorer": "s", "scorer_version": "1", "stand_in": True}
    for count, note in ((5, "fewer than 8 profiles"), (9, "nothing varies")):
        some = profiles(count)
        names = tuple(p.name for p in some)
        shifts = {("vim", n): [Shifts(VALUES, np.random.rand(1, 10), np.zeros((1, 10)))] for n in names}
        harm = Harms(
            "vim", "input-only", np.ones((count, 10)), np.ones((count, 1)), [label], profiles=names
        )
        row = mechanism_harms_table(shifts, [harm], 0.01, 1).row(0, named=True)
        assert (row["note"], row["named"], row["direction"]) == (note, False, None)
