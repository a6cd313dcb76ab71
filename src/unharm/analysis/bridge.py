"""A map from one scorer to another, fitted on vanilla and tested on every other arm.

A pilot scores a sample of completions with both scorers. A study that has only the first one afterwards
reports what the second would have said.

The map is binned: each bin of the first scorer's values holds values of the second, the donors, and a text
draws one of them. Between two bin centres it takes the upper bin with the chance of linear interpolation:

    x of a text   0.30        centres 0.20 | 0.40      upper bin with chance 0.5
    donors        0.20: [0.1, 0.1, 0.3]   0.40: [0.2, 0.5, 0.6]

Bins, and not a curve through the means, because metrics are shares above a threshold, shares of 5 and
maxima: they need the distribution of the second scorer, on its scale (0 or 1, 1 to 5, [0, 1]).

In another arm the same value may mean something else. Its mean residual from vanilla's map is tested, and
its own texts join the donors, tilted by exp(t · value) with the t that gives the arm's mean. Estimates are
multiple imputations (Rubin, 1987): each draws the prompts of the pilot anew, so that intervals carry the
map's error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from unharm.analysis.agreement import numbered
from unharm.analysis.calibration import IMPUTATIONS, chances_of
from unharm.core.errors import UserError
from unharm.core.hashing import content_hash

Array = np.ndarray

VERSION = 1
PER_BIN, MOST_BINS = 25, 40
"""Texts of vanilla in a bin at least, and bins at most."""
LEVELS = 12
"""A first scorer with at most this many different values has a bin for each."""
FEWEST, FEWEST_PROMPTS = 50, 10
"""Texts and prompts of an arm that both scorers must have scored."""
STEEPEST = 30.0
"""The largest tilt, per range of the second scorer's values."""
POWER, LEVEL = 0.9, 0.05


@dataclass(frozen=True)
class ArmTest:
    """What the pilot says of one arm.

    Attributes:
        texts: Texts that both scorers have scored.
        unscored: Texts that one of them has no score for.
        mean_one: Mean of the first scorer.
        mean_other: Mean of the second scorer.
        shift: Mean of (second scorer − vanilla's map), in the second scorer's units; None for vanilla.
        low: Lower bound of the shift's interval.
        high: Upper bound.
        p: Two-sided p of no shift. Not adjusted for the number of arms: to miss a shift costs more than a
            false alarm.
        detectable: The smallest shift that this sample would show with a chance of 90 %.
    """

    texts: int
    unscored: int
    mean_one: float
    mean_other: float
    shift: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    detectable: float | None = None

    @property
    def shifted(self) -> bool:
        return self.p is not None and self.p < LEVEL


@dataclass(frozen=True)
class Donors:
    """The values of the second scorer that an arm draws from.

    Attributes:
        values: By bin, sorted.
        weights: By imputation and bin, how often each value counts.
        tilts: By imputation.
    """

    values: list[list[float]]
    weights: list[list[list[int]]]
    tilts: list[float]


@dataclass(frozen=True)
class ArmMap:
    """The map of one arm; see `analysis.metrics`."""

    name: str
    key: str
    centres: list[float]
    donors: Donors

    def drawn(self, values: Array, keys: Sequence[str], number: int) -> Array:
        """Return one imputation of what the second scorer would say: the same for the same key.

        Args:
            values: Scores of the first scorer, [texts].
            keys: One per text; equal texts have equal ones.
            number: Which imputation.
        """
        low, share = _places(np.array(self.centres), values)
        chances, second = chances_of(keys, number)
        bins = low + (second < share)
        result = np.empty(len(values))
        for b in np.unique(bins):
            here = bins == b
            donors = np.array(self.donors.values[b])
            total = np.cumsum(_tilted(donors, self.donors.weights[number][b], self.donors.tilts[number]))
            place = np.searchsorted(total, chances[here] * total[-1], side="right")
            result[here] = donors[np.minimum(place, len(donors) - 1)]
        return result


@dataclass(frozen=True)
class Bridge:
    """A fitted map from the scorer `one` to `other`, whose measure is `measures`."""

    one: str
    one_version: str
    other: str
    other_version: str
    measures: str
    reference: str
    seed: int
    confidence: float
    prompts: int
    rank_correlation: float
    centres: list[float]
    donors: Mapping[str, Donors]
    arms: Mapping[str, ArmTest]

    @cached_property
    def key(self) -> str:
        """The content hash of the map."""
        return content_hash([VERSION, asdict(self)])

    @property
    def name(self) -> str:
        return f"{self.one} → {self.other} (mapped)"

    def for_arm(self, arm: str) -> ArmMap:
        """Return the map of an arm; of an arm that the pilot did not test, vanilla's."""
        donors = self.donors.get(arm, self.donors[self.reference])
        return ArmMap(self.name, self.key, self.centres, donors)

    def untested(self, arms: Sequence[str]) -> list[str]:
        """Return the arms that this map was not tested on."""
        return [arm for arm in arms if arm not in self.donors]


@dataclass(frozen=True)
class ScoredTwice:
    """The texts that both scorers have scored.

    Attributes:
        centres: Means of the bins of the scorer that stays [bins].
        bins: The bin of each text [texts].
        x: The score of the scorer that stays [texts].
        y: The score of the other one [texts].
        groups: The prompt of each text, numbered from 0 [texts].
        base: Whether a text is of the reference arm [texts].
    """

    centres: Array
    bins: Array
    x: Array
    y: Array
    groups: Array
    base: Array


def fit_bridge(
    pairs: pl.DataFrame,
    one: tuple[str, str],
    other: tuple[str, str],
    measures: str,
    reference: str = "vanilla",
    confidence: float = 0.95,
    seed: int = 0,
) -> Bridge:
    """Fit a map on the reference arm, and test it on every other one.

    Args:
        pairs: arm, group (the prompt), one, other; null where a scorer has no score.
        one: Name and version of the scorer that stays.
        other: Name and version of the scorer whose units are wanted.
        measures: What `other` measures.
        reference: The arm that the map is fitted on.
        confidence: Of the intervals of shifts.
        seed: Of the draws.

    Raises:
        UserError: The reference arm has too few texts, or the scorers do not go up together.
    """
    known = pairs.drop_nulls(["one", "other"]).sort("arm", "group", "one", "other")
    unscored = dict(
        pairs.group_by("arm").agg(pl.any_horizontal(pl.col("one", "other").is_null()).sum()).iter_rows()
    )
    where = f"{one[0]}, {other[0]}"
    groups = numbered(known["group"]) if known.height else np.zeros(0, dtype=int)
    arm_of = known["arm"].to_numpy()
    x, y = known["one"].to_numpy().astype(float), known["other"].to_numpy().astype(float)
    base = arm_of == reference
    if base.sum() < FEWEST or len(set(groups[base])) < FEWEST_PROMPTS:
        raise UserError(
            f"only {base.sum()} texts of {len(set(groups[base]))} prompts of the arm {reference!r} are "
            "scored by both",
            where,
            f"a map needs at least {FEWEST} of {FEWEST_PROMPTS}: raise --n, or see why texts stay unscored",
        )
    rank = _rank_correlation(x[base], y[base], reference, where)
    centres, edges = _bins(x[base])
    texts = ScoredTwice(centres, np.searchsorted(edges, x, side="left"), x, y, groups, base)
    count = int(groups.max()) + 1
    draw = np.random.default_rng(seed)
    resampled = draw.multinomial(count, np.full(count, 1 / count), size=IMPUTATIONS)
    tests, donors = {}, {}
    for arm in [reference, *sorted(set(arm_of) - {reference})]:
        here = arm_of == arm
        test = ArmTest(
            int(here.sum()), int(unscored.get(arm, 0)), float(x[here].mean()), float(y[here].mean())
        )
        enough = here.sum() >= FEWEST and len(set(groups[here])) >= FEWEST_PROMPTS
        if arm != reference and enough:
            shift, low, high, p, detectable = _shift(texts, here, confidence)
            test = replace(test, shift=shift, low=low, high=high, p=p, detectable=detectable)
        tests[arm] = test
        if enough:
            donors[arm] = _donors(texts, here, resampled)
    return Bridge(
        *one, *other, measures, reference, seed, confidence, count, round(rank, 4),
        [float(c) for c in centres], donors, tests,
    )  # fmt: skip


def _rank_correlation(x: Array, y: Array, reference: str, where: str) -> float:
    """Return Spearman's correlation of the two scorers on the reference arm.

    Raises:
        UserError: They do not go up together, or one of them does not vary.
    """
    varied = len(set(x)) > 1 and len(set(y)) > 1
    rank = float(stats.spearmanr(x, y).statistic) if varied else math.nan
    if not rank > 0:
        mistake = "do not go up together" if varied else "do not vary"
        raise UserError(
            f"the two scorers {mistake} on {reference}", where, "is one of them turned around? raise --n"
        )
    return rank


def _bins(x: Array) -> tuple[Array, Array]:
    """Return the means of x in bins of about equally many texts, and the largest x of each but the last.

    Ties are never split.
    """
    levels, counts = np.unique(x, return_counts=True)
    if len(levels) <= LEVELS:
        return levels, levels[:-1]
    size = max(PER_BIN, math.ceil(len(x) / MOST_BINS))
    firsts, held = [0], 0
    for place, times in enumerate(counts):
        held += times
        if held >= size and counts[place + 1 :].sum() >= size:
            firsts.append(place + 1)
            held = 0
    sums = np.add.reduceat(levels * counts, firsts)
    return sums / np.add.reduceat(counts, firsts), levels[np.array(firsts[1:], dtype=int) - 1]


def _places(centres: Array, x: Array) -> tuple[Array, Array]:
    """Return the lower bin of each value, and the share that the next bin has in it."""
    if len(centres) == 1:
        return np.zeros(len(x), dtype=int), np.zeros(len(x))
    low = np.clip(np.searchsorted(centres, x, side="right") - 1, 0, len(centres) - 2)
    share = (x - centres[low]) / (centres[low + 1] - centres[low])
    return low, np.clip(share, 0.0, 1.0)


def _shares(centres: Array, x: Array, weights: Array) -> Array:
    """Return what each bin has of some texts, [bins]."""
    low, upper = _places(centres, x)
    sums = np.bincount(low, weights * (1 - upper), len(centres))
    sums += np.bincount(np.minimum(low + 1, len(centres) - 1), weights * upper, len(centres))
    return np.asarray(sums / max(weights.sum(), 1e-12))


def _shift(texts: ScoredTwice, here: Array, confidence: float) -> tuple[float, float, float, float, float]:
    """Return the mean residual of an arm from vanilla's map, its t interval, p, and what would be found.

    The standard error is that of the influence of each prompt, on the arm's residuals and on the map.
    """
    sizes = np.bincount(texts.bins[texts.base], minlength=len(texts.centres))
    means = np.bincount(texts.bins[texts.base], texts.y[texts.base], len(texts.centres)) / np.maximum(
        sizes, 1
    )
    low, upper = _places(texts.centres, texts.x[here])
    mapped = means[low] * (1 - upper) + means[np.minimum(low + 1, len(texts.centres) - 1)] * upper
    residual = texts.y[here] - mapped
    shift = float(residual.mean())
    shares = _shares(texts.centres, texts.x[here], np.ones(int(here.sum())))
    own = texts.bins[texts.base]
    spread = np.sqrt(sizes[own] / np.maximum(sizes[own] - 1, 1))  # the means are those of the same texts
    pull = -shares[own] * (texts.y[texts.base] - means[own]) * spread / sizes[own]
    influence = np.bincount(
        texts.groups[here], (residual - shift) / len(residual), int(texts.groups.max()) + 1
    )
    influence += np.bincount(texts.groups[texts.base], pull, len(influence))
    used = len(set(texts.groups[here | texts.base]))
    error = math.sqrt(float((influence**2).sum()) * used / (used - 1))
    quantile = float(stats.t.ppf(0.5 + confidence / 2, used - 1))
    p = float(2 * stats.t.sf(abs(shift) / error, used - 1)) if error else float(shift == 0)
    needed = float(stats.t.ppf(1 - LEVEL / 2, used - 1) + stats.norm.ppf(POWER))
    return shift, shift - quantile * error, shift + quantile * error, p, needed * error


def _donors(texts: ScoredTwice, here: Array, resampled: Array) -> Donors:
    """Return the donors of an arm: vanilla's texts and its own."""
    pool = texts.base | here
    order = np.lexsort((texts.y[pool], texts.bins[pool]))
    sorted_bins, values, owners = texts.bins[pool][order], texts.y[pool][order], texts.groups[pool][order]
    every = [sorted_bins == b for b in range(len(texts.centres))]
    weights, tilts = [], []
    for times in resampled:
        times_of = times[owners]
        table = []
        for inside in every:
            counts = times_of[inside]
            table.append([int(c) for c in (counts if counts.any() else np.ones_like(counts))])
        weights.append(table)
        drawn = times[texts.groups[here]].astype(float)
        if (here == texts.base).all() or not drawn.any():
            tilts.append(0.0)
            continue
        shares = _shares(texts.centres, texts.x[here], drawn)
        goal = float((texts.y[here] * drawn).sum() / drawn.sum())
        tilts.append(_tilt([values[inside] for inside in every], table, shares, goal))
    return Donors([[round(float(v), 6) for v in values[inside]] for inside in every], weights, tilts)


def _tilted(donors: Array, weights: Sequence[int], tilt: float) -> Array:
    """Return the weights of donors, times exp(tilt · value)."""
    exponent = tilt * donors
    return np.asarray(np.asarray(weights) * np.exp(exponent - exponent.max()))


def _tilt(donors: list[Array], weights: list[list[int]], shares: Array, goal: float) -> float:
    """Return the tilt under which the mean over bins with these shares is `goal`, by bisection."""
    everything = np.concatenate(donors)
    spread = float(everything.max() - everything.min())
    if not spread:
        return 0.0

    counts = np.concatenate([np.asarray(inside, dtype=float) for inside in weights])
    bins = np.repeat(np.arange(len(donors)), [len(values) for values in donors])

    def mean(tilt: float) -> float:
        tilted = counts * np.exp(tilt * (everything - everything.max()))  # at most exp(±STEEPEST)
        sums = np.bincount(bins, tilted, len(donors))
        means = np.bincount(bins, tilted * everything, len(donors)) / np.maximum(sums, 1e-300)
        return float((shares * means).sum())

    low, high = -STEEPEST / spread, STEEPEST / spread
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < goal else (low, middle)
    return round((low + high) / 2, 6)


def bridge_from(data: dict[str, Any]) -> Bridge:
    """Return a map from the data of its file.

    Raises:
        Exception: `ValueError`, `KeyError` or `TypeError` where it is none.
    """
    if data.pop("version") != VERSION:
        raise ValueError("another version")
    data["donors"] = {arm: Donors(**donors) for arm, donors in data["donors"].items()}
    data["arms"] = {arm: ArmTest(**test) for arm, test in data["arms"].items()}
    bridge = Bridge(**data)
    for arm in bridge.donors:
        ends = np.array([bridge.centres[0], bridge.centres[-1]])
        bridge.for_arm(arm).drawn(ends, ["a", "b"], IMPUTATIONS - 1)
    return bridge
