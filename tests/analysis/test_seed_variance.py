"""The part of the variance that training seeds bring: known effects, few profiles with several seeds."""

from __future__ import annotations

import numpy as np
import pytest

from unharm.analysis.variance import Parts, labelled, parts_of, summed_rows


def rows(
    draw: np.random.Generator, profiles: int, several: int, effect: float, noise: float, prompts: int = 40
) -> tuple[np.ndarray, list[str], list[int]]:
    """Scores with an effect of the seed on all rows; the first `several` profiles have three seeds."""
    of_seed = effect * draw.normal(size=3)
    values, names, seeds = [], [], []
    for profile in range(profiles):
        for seed in range(3 if profile < several else 1):
            values.append(of_seed[seed] + noise * draw.normal(size=prompts))
            names.append(f"p{profile}")
            seeds.append(seed)
    return np.array(values), names, seeds


def parts(values: np.ndarray, names: list[str], seeds: list[int]) -> Parts:
    every = np.ones(values.shape[1], dtype=bool)
    return parts_of(summed_rows(values, labelled(names, seeds, names)), every)


@pytest.mark.parametrize(
    ("profiles", "several", "weights"),
    [(8, 8, [1 / 3] * 3), (8, 3, [(5 + 1) / 8, 1 / 8, 1 / 8]), (1, 1, [1 / 3] * 3)],
    ids=["all profiles", "three of eight", "a single model"],
)
def test_the_part_of_seeds_is_that_of_their_weights(
    profiles: int, several: int, weights: list[float]
) -> None:
    draw = np.random.default_rng(3)
    found, means = [], []
    for _ in range(1500):
        values, names, seeds = rows(draw, profiles, several, 0.1, 0.05, prompts=12)
        one = parts(values, names, seeds)
        found.append(one.seeds)
        means.append(one.mean)
    expected = 0.1**2 * sum(w**2 for w in weights)
    assert np.mean(found) == pytest.approx(expected, rel=0.12)
    assert np.var(means) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("profiles", [1, 6])
def test_noise_is_no_effect_of_seeds(profiles: int) -> None:
    """What differs by chance alone is taken off: the estimate is below zero, and so zero, in most cases."""
    draw = np.random.default_rng(4)
    found = []
    for _ in range(400):
        values, names, labels = rows(draw, profiles, profiles, 0.0, 0.3)
        found.append(parts(values, names, labels).seeds)
    assert np.mean(np.array(found) == 0) > 0.5
    assert np.mean(found) < 0.5 * 0.3**2 / (3 * profiles * 40)


def test_what_profiles_differ_by_is_not_taken_off() -> None:
    draw = np.random.default_rng(6)
    found = []
    for _ in range(600):
        values, names, labels = rows(draw, 6, 6, 0.1, 0.05)
        values = values + 0.5 * np.repeat(draw.normal(size=6), 3)[:, None]
        found.append(parts(values, names, labels).seeds)
    assert np.mean(found) == pytest.approx(0.1**2 / 3, rel=0.12)


def test_every_profile_counts_alike() -> None:
    values = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    names = ["a", "a", "a", "b"]
    assert parts(values, names, [0, 1, 2, 0]).mean == pytest.approx(0.5)
