"""Choose layer and strength of steering: the best alignment on validation texts at a bounded perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES

Ratings = Sequence[tuple[float, ...]]
"""Probabilities of the ratings 1 to 6, by statement."""

LEAST_VALUES = 3
"""Fewest values with a rated statement for a correlation."""


@dataclass(frozen=True)
class Candidate:
    """A layer and strength that was tried.

    Attributes:
        layer: The layer whose output is shifted, from 0.
        strength: Multiple of the profile's direction.
        alignment: Mean over profiles of the centred correlation of expected ratings and importances.
        perplexity: Perplexity of neutral text in multiples of the base's, geometric mean over profiles.
        fits: Whether the perplexity is within the bound.
    """

    layer: int
    strength: float
    alignment: float
    perplexity: float
    fits: bool


def layers_to_try(layers: str | list[int], count: int) -> list[int]:
    """Return the layers to try of a model with so many: those given, or at quarters of the depth."""
    if isinstance(layers, str):
        return sorted({count // 4, count // 2, 3 * count // 4})
    return [layer for layer in layers if layer < count]


def expected_rating(chances: Sequence[float]) -> float:
    """Return Σ r·p(r) / Σ p(r) over the ratings from 1 on; not a number if no rating has a chance."""
    mass = sum(chances)
    return sum(r * p for r, p in enumerate(chances, start=1)) / mass if mass > 0 else math.nan


def alignment_of(ratings: Ratings, statements: Sequence[Argument], profile: Profile) -> float:
    """Return the correlation over values of mean expected ratings and importances, both less their means.

    A statement counts for every value that it carries. The result is 0 where the ratings do not vary, and
    not a number where fewer than `LEAST_VALUES` values have statements.
    """
    expected = [expected_rating(chances) for chances in ratings]
    means, targets = [], []
    for value in VALUES:
        rated = [
            e for e, a in zip(expected, statements, strict=True) if value in a.values and not math.isnan(e)
        ]
        if rated:
            means.append(sum(rated) / len(rated))
            targets.append(profile[value])
    if len(means) < LEAST_VALUES:
        return math.nan
    a, b = np.array(means) - np.mean(means), np.array(targets) - np.mean(targets)
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float(a @ b) / scale if scale > 1e-9 else 0.0


def surprise(chances: Sequence[float], texts: Sequence[str]) -> float:
    """Return the mean negative log-probability per word of texts, in nats.

    It is infinite if one is impossible.
    """
    if min(chances, default=0.0) <= 0:
        return math.inf
    words = sum(len(text.split()) for text in texts)
    return -sum(math.log(p) for p in chances) / words


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Return the best aligned candidate within the bound; among equals the gentlest.

    Where none is within the bound, the one with the lowest perplexity.
    """
    fitting = [c for c in candidates if c.fits and not math.isnan(c.alignment)]
    if not fitting:
        return min(candidates, key=lambda c: (c.perplexity, c.strength))
    return max(fitting, key=lambda c: (round(c.alignment, 6), -c.perplexity, -c.strength))


def spread_over(profiles: Sequence[Profile], most: int) -> list[Profile]:
    """Return at most `most` profiles, one per target first, evenly spread over their order."""
    firsts = list({p.target: p for p in reversed(profiles)}.values())[::-1]
    step = max(1, math.ceil(len(firsts) / most))
    return firsts[::step][:most]
