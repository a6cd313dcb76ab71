"""Score tables of studies that never ran, with known effects: to prove the statistics, and to plan.

A completion's harm is a step or a curve over a hidden number: what its category has in common, what its
prompt adds (the same for all arms), what the arm adds on the whole and on the prompt, what the profile
adds on the whole and in the category, and what is its own. Effects are planted there: a shift of an arm,
and correlations of values with what profiles add in a category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl
from scipy import stats

from unharm.core.values import VALUES

Array = np.ndarray
Scale = Literal["toxicity", "negative_regard", "harmfulness", "flagged"]


@dataclass(frozen=True)
class Bench:
    """The size of a benchmark: prompts by category, samples of a prompt, and how its scores look."""

    scale: Scale
    categories: Mapping[str, int]
    samples: int = 1
    level: float = -1.0
    """What all completions have in common, on the hidden scale: -1 makes a fifth of answers flagged."""


@dataclass(frozen=True)
class World:
    """What varies, as standard deviations on the hidden scale, and what is planted.

    `shift` is what an aligned arm adds to vanilla; `planted` has the correlation of a value with what
    profiles add in a category, by (benchmark, category, value). `unscored` is the share without a score,
    `noise` the share of scores that a judge draws at random from all.
    """

    prompt: float = 0.8
    arm_prompt: float = 0.3
    profile: float = 0.3
    profile_category: float = 0.5
    own: float = 1.0
    shift: float = 0.0
    planted: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    unscored: float = 0.01
    noise: float = 0.02


PAPER: dict[str, Bench] = {
    "rtp": Bench("toxicity", {"": 3_000}, samples=10),
    "hbr": Bench("negative_regard", {f"axis {n}": 2_212 + (n < 4) for n in range(8)}),
    "hexphi": Bench("harmfulness", {f"category {n}": 30 for n in range(11)}),
    "beavertails": Bench("flagged", {f"category {n}": 50 for n in range(14)}),
}
"""The sizes of the paper's benchmarks."""


def smaller(benches: Mapping[str, Bench], share: float) -> dict[str, Bench]:
    """The same benchmarks with so much of each category's prompts, but for categories of 50 or fewer."""
    return {
        name: Bench(
            b.scale,
            {c: max(min(n, 50), round(n * share)) for c, n in b.categories.items()},
            b.samples,
            b.level,
        )
        for name, b in benches.items()
    }


def added_by_profiles(
    importances: Array, benchmark: str, categories: Sequence[str], world: World, draw: np.random.Generator
) -> Array:
    """What each profile adds in each category (profiles × categories, mean 0, standard deviation 1 in the
    long run). With what they add on the whole it correlates as planted with the ranks of the values'
    importances."""
    added = np.array(draw.normal(size=(len(importances), len(categories))))
    for (bench, category, value), r in world.planted.items():
        if bench == benchmark and category in categories:
            ranks = stats.rankdata(importances[:, VALUES.index(value)])
            z = (ranks - ranks.mean()) / ranks.std()
            place = list(categories).index(category)
            own = min(
                0.99, abs(r) * np.hypot(world.profile, world.profile_category) / world.profile_category
            )
            added[:, place] = np.sign(r) * own * z + np.sqrt(1 - own**2) * added[:, place]
    return np.asarray(added)


def scored(hidden: Array, bench: Bench, draw: np.random.Generator, world: World) -> Array:
    """Scores from hidden numbers, some missing and some at random."""
    values: Array
    if bench.scale == "toxicity":
        values = 1 / (1 + np.exp(-1.4 * hidden))
        random = draw.random(hidden.shape)
    elif bench.scale == "harmfulness":
        values = 1.0 + np.searchsorted([-0.8, -0.2, 0.4, 1.0], hidden)
        random = draw.integers(1, 6, hidden.shape).astype(float)
    else:
        values = (hidden > 0).astype(float)
        random = draw.integers(0, 2, hidden.shape).astype(float)
    values = np.where(draw.random(hidden.shape) < world.noise, random, values)
    return np.where(draw.random(hidden.shape) < world.unscored, np.nan, values)


def simulated(
    importances: Array, benchmark: str, bench: Bench, world: World, seed: int
) -> tuple[Array, Array, Array]:
    """Scores of vanilla (prompts × samples), scores of an aligned arm (profiles × prompts × samples),
    and the category of each prompt."""
    draw = np.random.default_rng(seed)
    categories = np.repeat(list(bench.categories), list(bench.categories.values()))
    place = np.repeat(np.arange(len(bench.categories)), list(bench.categories.values()))
    prompts, profiles = len(categories), len(importances)
    common = bench.level + world.prompt * draw.normal(size=prompts)
    arm = world.shift + world.arm_prompt * draw.normal(size=prompts)
    whole = world.profile * draw.normal(size=profiles)
    added = added_by_profiles(importances, benchmark, list(bench.categories), world, draw)
    own = world.own * draw.normal(size=(prompts, bench.samples))
    vanilla = scored(common[:, None] + own, bench, draw, world)
    hidden = (common + arm)[None, :, None] + whole[:, None, None]
    hidden = hidden + world.profile_category * added[:, place][:, :, None]
    hidden = hidden + world.own * draw.normal(size=(profiles, prompts, bench.samples))
    return vanilla, scored(hidden, bench, draw, world), categories


DRAWS = 400_000


def true_difference(bench: Bench, world: World, shift: float | None = None) -> float:
    """The mean of the benchmark's first metric over all profiles and prompts that there could be, less
    vanilla's; by so many draws that its own error does not count."""
    draw = np.random.default_rng(7)
    common = bench.level + world.prompt * draw.normal(size=DRAWS)
    others = np.sqrt(world.arm_prompt**2 + world.profile**2 + world.profile_category**2)
    moved = common + (world.shift if shift is None else shift) + others * draw.normal(size=DRAWS)
    highest = draw.random(DRAWS) ** (1 / bench.samples)  # of so many uniform numbers
    own = world.own * stats.norm.ppf(highest)
    sure = World(unscored=0.0, noise=0.0)
    means = [float(scored(hidden + own, bench, draw, sure).mean()) for hidden in (moved, common)]
    return means[0] - means[1]


def without_difference(bench: Bench, world: World) -> World:
    """The same world with the shift at which an arm does not differ from vanilla on the whole: what
    profiles add would move the mean of a step or a curve by itself."""
    from scipy.optimize import brentq

    shift = brentq(lambda s: true_difference(bench, world, s), -3, 3, xtol=1e-4)
    return replace(world, shift=float(shift), noise=0.0)


def score_table(values: Array, categories: Array) -> pl.DataFrame:
    """The scores of one subject (prompts × samples) as the table that metrics are made of."""
    prompts, samples = values.shape
    flat = values.reshape(-1)
    return pl.DataFrame(
        {
            "prompt_id": np.repeat([f"p{n}" for n in range(prompts)], samples),
            "category": np.repeat(categories, samples),
            "value": pl.Series(flat).fill_nan(None),
            "flag": pl.repeat("", len(flat), eager=True),
        }
    )


def reduced(values: np.ndarray, scale: str) -> np.ndarray:
    """One number per prompt from its samples, the last axis: the largest of toxicity, else the mean; over
    those that are scored, NaN where none is."""
    missing = np.isnan(values)
    if scale == "toxicity":
        found = np.where(missing, -np.inf, values).max(axis=-1)
    else:
        found = np.where(missing, 0, values).sum(axis=-1) / np.maximum((~missing).sum(axis=-1), 1)
    return np.where(missing.all(axis=-1), np.nan, found)
