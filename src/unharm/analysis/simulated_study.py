"""Score tables of studies that never ran, with known truth: to measure the statistics, and to plan studies.

The simulation shares no code with the methods that it tests. Each score is a step of a latent normal
number, so that the probability of harm averages exactly to a stated base rate over the prompts that there
could be:

    latent = √difficulty · z[prompt] + √interaction · w[arm, prompt] + √rest · e[cell]
    harm   = latent > Φ⁻¹(1 − rate[profile, category])
    rate   = base rate of the category × deviation of the profile × deviation of the seed

Few prompts bring most of the harm (skewed difficulty). Deviations are log-normal with mean 1. Profiles are
near copies of a target and share a part of their deviation with it. A planted association makes a part of
the deviation follow the ranks of a value's importance. The judge misses harm and raises false alarms, and
harmful answers stay unscored more often than harmless ones. All expectations are known in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

from unharm.core.values import HIGHER_ORDER, VALUES
from unharm.profiles.extreme import extreme
from unharm.profiles.similar import most_similar

Array = np.ndarray

LEVELS = (1.5, 1.2, 1.0, 0.8)
"""Tail probabilities, relative to the rate, of harmfulness of at least 2, 3, 4 and 5."""


@dataclass(frozen=True)
class SimulatedBench:
    """The size of a benchmark: its measure (`flagged` or `harmfulness`) and its prompts by category."""

    measure: str
    categories: Mapping[str, int]


@dataclass(frozen=True)
class Regime:
    """What varies in a simulated study.

    Attributes:
        base: Mean base rate of harm; categories differ by a log-normal factor of deviation 0.5.
        share: Share of a profile's (log) deviation that all profiles of its target have in common.
        seed_effect: Standard deviation of the factor by which a seed moves all adapters of an arm.
        seeds: Seeds per adapter.
        vanilla_samples: Samples per prompt of vanilla; aligned subjects have one.
        shift: Factor on the base rate of the aligned arm; 1 is no difference from vanilla.
        difficulty: Share of the latent variance that the prompt brings for all arms.
        interaction: Share of the latent variance that the prompt brings for one arm.
        whole, part: Standard deviation of a profile's log deviation on everything, and by category.
        sensitivity, specificity: Of the judge.
        unscored, unscored_harm: Probability that a harmless and a harmful answer has no score.
        planted: Correlation of a value's rank with the log deviation by category, by (bench, category,
            value).
    """

    base: float = 0.1
    share: float = 0.0
    seed_effect: float = 0.0
    seeds: int = 1
    vanilla_samples: int = 10
    shift: float = 1.0
    difficulty: float = 0.5
    interaction: float = 0.1
    whole: float = 0.3
    part: float = 0.4
    sensitivity: float = 0.9
    specificity: float = 0.995
    unscored: float = 0.01
    unscored_harm: float = 0.04
    planted: Mapping[tuple[str, str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class SimulatedScores:
    """Scores of one benchmark with what is true of them.

    Attributes:
        vanilla: [prompts, samples], NaN where unscored.
        aligned: [profiles, seeds, prompts].
        categories: The category of each prompt.
        true_vanilla, true_aligned: The expected score by category, over all prompts, profiles and seeds.
    """

    vanilla: Array
    aligned: Array
    categories: Array
    true_vanilla: dict[str, float]
    true_aligned: dict[str, float]


def survey_like_profiles(seed: int, near: int = 10, respondents: int = 4_000) -> tuple[Array, list[str]]:
    """Importances [154, 10] and the target of each: the 14 extremes, each followed by its nearest
    respondents.

    Respondents answer two items per value on whole numbers, so that importances are halves with many ties;
    values near each other on the circle go together (Schwartz, 1992).
    """
    draw = np.random.default_rng(seed)
    circle = ("universalism", "benevolence", "tradition", "conformity", "security", "power", "achievement",
              "hedonism", "stimulation", "self-direction")  # fmt: skip
    angle = np.array([2 * np.pi * circle.index(v) / len(VALUES) for v in VALUES])
    toward = draw.uniform(0, 2 * np.pi, size=(respondents, 1))
    taste = 4.0 + draw.normal(0, 0.6, (respondents, 1)) + 1.0 * np.cos(angle - toward)
    taste = taste + draw.normal(0, 0.7, (respondents, len(VALUES)))
    items = np.clip(np.round(taste[:, :, None] + draw.normal(0, 0.8, (*taste.shape, 2))), 1, 6)
    vectors = np.unique(items.mean(axis=2), axis=0)
    rows, targets = [], []
    for name in (*VALUES, *HIGHER_ORDER):
        importances = np.array(extreme(name).importances)
        chosen = most_similar(vectors, importances, near) if near else np.zeros(0, dtype=int)
        rows += [importances, *vectors[chosen]]
        targets += [name] * (near + 1)
    return np.array(rows), targets


def simulate_bench(
    importances: Array,
    targets: Sequence[str],
    name: str,
    bench: SimulatedBench,
    regime: Regime,
    seed: int | Sequence[int],
) -> SimulatedScores:
    """The scores of vanilla and of one aligned arm on a benchmark."""
    draw = np.random.default_rng(seed)
    categories = np.repeat(list(bench.categories), list(bench.categories.values()))
    place = np.repeat(np.arange(len(bench.categories)), list(bench.categories.values()))
    prompts, profiles = len(categories), len(importances)
    spread = np.exp(draw.normal(0, 0.5, len(bench.categories)) - 0.125)
    base = np.minimum(regime.base * spread, 0.45)
    rates, expected, base = _rates(importances, targets, name, bench, regime, base, draw)
    difficulty = np.sqrt(regime.difficulty) * draw.normal(size=prompts)
    rest = np.sqrt(1 - regime.difficulty - regime.interaction)
    of_arm = np.sqrt(regime.interaction) * draw.normal(size=(2, prompts))
    vanilla = difficulty + of_arm[0] + rest * draw.normal(size=(regime.vanilla_samples, prompts))
    aligned = (difficulty + of_arm[1]) + rest * draw.normal(size=(profiles, regime.seeds, prompts))
    judged = [
        _judged(latent, rate, bench.measure, regime, draw)
        for latent, rate in ((vanilla, base[place]), (aligned, rates[:, :, place]))
    ]
    truth = [
        {
            c: _expected(float(rate), bench.measure, regime)
            for c, rate in zip(bench.categories, some, strict=True)
        }
        for some in (base, expected)
    ]
    return SimulatedScores(judged[0].T, judged[1], categories, *truth)


def _rates(
    importances: Array,
    targets: Sequence[str],
    name: str,
    bench: SimulatedBench,
    regime: Regime,
    base: Array,
    draw: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Rates [profiles, seeds, categories] of the aligned arm, and the expected rate of each category for
    the
    aligned arm and for vanilla. The cap on rates lowers the expectation, so vanilla takes the capped
    one."""
    profiles, parts = len(importances), len(bench.categories)
    _, target = np.unique(np.asarray(targets), return_inverse=True)

    def deviation(columns: int) -> Array:
        common = draw.normal(size=(target.max() + 1, columns))[target]
        return np.asarray(
            np.sqrt(regime.share) * common
            + np.sqrt(1 - regime.share) * draw.normal(size=(profiles, columns))
        )

    whole, part = deviation(1), deviation(parts)
    scale = np.hypot(regime.whole, regime.part)
    both = (regime.whole * whole + regime.part * part) / scale
    for (bench_name, category, value), r in regime.planted.items():
        if bench_name == name and category in bench.categories:
            ranks = stats.rankdata(importances[:, VALUES.index(value)])
            column = list(bench.categories).index(category)
            both[:, column] = r * (ranks - ranks.mean()) / ranks.std() + np.sqrt(1 - r**2) * both[:, column]
    factor = np.exp(scale * both - scale**2 / 2)
    seed_scale = np.sqrt(np.log1p(regime.seed_effect**2))
    of_seed = np.exp(seed_scale * draw.normal(size=regime.seeds) - seed_scale**2 / 2)
    rates = np.minimum(regime.shift * base * factor[:, None, :] * of_seed[None, :, None], HIGHEST_RATE)
    total = np.hypot(scale, seed_scale)
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    steps = np.exp(total * nodes - total**2 / 2)
    weights = weights / weights.sum()
    expected = np.minimum(regime.shift * base[:, None] * steps, HIGHEST_RATE) @ weights
    return rates, expected, np.minimum(base[:, None] * steps, HIGHEST_RATE) @ weights


HIGHEST_RATE = 0.62
"""No rate is above: 1.5 times it is the largest tail probability of `LEVELS`."""


def _judged(latent: Array, rate: Array, measure: str, regime: Regime, draw: np.random.Generator) -> Array:
    """What the judge makes of latent numbers, NaN where it gives no score."""
    if measure == "flagged":
        harmful = latent > special.ndtri(1 - rate)
        seen = draw.random(latent.shape) < np.where(harmful, regime.sensitivity, 1 - regime.specificity)
        value = seen.astype(float)
    else:
        value = np.ones(latent.shape)
        for level in LEVELS:
            value += latent > special.ndtri(1 - level * rate)
        harmful = value > 1
        wrong = draw.random(latent.shape)
        value = np.where(harmful & (wrong > regime.sensitivity), 1.0, value)
        value = np.where(~harmful & (wrong > regime.specificity), 4.0, value)
    lost = draw.random(latent.shape) < np.where(harmful, regime.unscored_harm, regime.unscored)
    return np.where(lost, np.nan, value)


def _expected(rate: float, measure: str, regime: Regime) -> float:
    """The expected score of the scored answers at a rate."""
    scored_harm, scored_harmless = 1 - regime.unscored_harm, 1 - regime.unscored
    false = 1 - regime.specificity
    if measure == "flagged":
        scored = rate * scored_harm + (1 - rate) * scored_harmless
        return (rate * scored_harm * regime.sensitivity + (1 - rate) * scored_harmless * false) / scored
    harmful = LEVELS[0] * rate
    scored = harmful * scored_harm + (1 - harmful) * scored_harmless
    above = (
        scored_harm * regime.sensitivity * sum(LEVELS) * rate + (1 - harmful) * scored_harmless * false * 3
    )
    return 1 + above / scored
