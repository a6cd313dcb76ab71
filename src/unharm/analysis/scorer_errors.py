"""Sensitivity and specificity of a scorer on an arm, from labels of people, and whether two arms agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import special

from unharm.analysis.corrected import Corrected, least_holding, p_of, size_of_share
from unharm.analysis.labelled_rates import Bin, beta_limits


@dataclass(frozen=True)
class ScorerErrors:
    """Sensitivity or specificity of a scorer on one arm, as log odds: a sum of independent parts, each an
    estimate with a function of the confidence that gives its interval."""

    value: float
    parts: tuple[tuple[float, Callable[[float], tuple[float, float]]], ...]

    @property
    def share(self) -> float:
        return float(special.expit(self.value))

    def distances(self, confidence: float) -> tuple[float, float]:
        """How far the limits lie below and above, in log odds."""
        below = above = 0.0
        for value, interval in self.parts:
            low, high = interval(confidence)
            below += 0.0 if value == low else (value - low) ** 2
            above += 0.0 if value == high else (high - value) ** 2
        return math.sqrt(below), math.sqrt(above)

    def limits(self, confidence: float) -> tuple[float, float]:
        """The interval of the share."""
        below, above = self.distances(confidence)
        if not math.isfinite(self.value):
            return self._one_sided(confidence)
        return float(special.expit(self.value - below)), float(special.expit(self.value + above))

    def _one_sided(self, confidence: float) -> tuple[float, float]:
        """The interval where no miss (or no hit) is among the labels: the other limits taken together."""
        near = [interval(confidence) for _, interval in self.parts]
        if self.value > 0:
            return float(special.expit(sum(low for low, _ in near))), 1.0
        return 0.0, float(special.expit(sum(high for _, high in near)))


def scorer_errors(arm: Corrected) -> tuple[ScorerErrors, ScorerErrors] | None:
    """Sensitivity and specificity on an arm with two verdicts; None where it has others.

    sensitivity: log odds = logit(share flagged) + log truth[flagged] − log truth[not flagged];
    specificity: log odds = −logit(share flagged) + log(1 − truth[not]) − log(1 − truth[flagged]).
    """
    if len(arm.bins) != 2:
        return None
    flagged = arm.shares[1]
    size = size_of_share(arm)

    def of_share(sign: float) -> tuple[float, Callable[[float], tuple[float, float]]]:
        def interval(confidence: float) -> tuple[float, float]:
            low, high = (_logit(x) for x in beta_limits(flagged, size, confidence))
            return (low, high) if sign > 0 else (-high, -low)

        return sign * _logit(flagged), interval

    no, yes = arm.bins
    sensitivity = (of_share(1.0), _log(yes, 1.0, False), _log(no, -1.0, False))
    specificity = (of_share(-1.0), _log(no, 1.0, True), _log(yes, -1.0, True))
    return _summed(sensitivity), _summed(specificity)


Part = tuple[float, Callable[[float], tuple[float, float]]]


def _summed(parts: tuple[Part, ...]) -> ScorerErrors:
    values = [value for value, _ in parts]
    both = math.inf in values and -math.inf in values
    return ScorerErrors(math.nan if both else sum(values), parts)


def _log(one: Bin, sign: float, harmless: bool) -> Part:
    """± log of the truth of a bin, or of 1 less it."""

    def value(x: float) -> float:
        x = 1 - x if harmless else x
        return sign * (math.log(x) if x > 0 else -math.inf)

    def interval(confidence: float) -> tuple[float, float]:
        first, second = (value(x) for x in one.limits(confidence))
        return min(first, second), max(first, second)

    return value(one.mean), interval


def _logit(x: float) -> float:
    return math.inf if x >= 1 else -math.inf if x <= 0 else math.log(x / (1 - x))


def p_equal(one: ScorerErrors, other: ScorerErrors) -> float | None:
    """The two-sided p of the hypothesis that a scorer errs alike on two arms; None where one arm's errors
    cannot be placed (no miss, or no false alarm, among its labels, on both)."""
    if not math.isfinite(one.value) and not math.isfinite(other.value):
        return None
    if not (math.isfinite(one.value) and math.isfinite(other.value)):
        return _p_of_limits(one, other)
    value = one.value - other.value

    def interval(confidence: float) -> tuple[float, float]:
        (below_a, above_a), (below_b, above_b) = one.distances(confidence), other.distances(confidence)
        return value - math.hypot(below_a, above_b), value + math.hypot(above_a, below_b)

    return p_of(interval, value)


def _p_of_limits(one: ScorerErrors, other: ScorerErrors) -> float:
    """p where one side is at 0 or 1: 1 minus the confidence at which both intervals cease to overlap."""

    def apart(p: float) -> bool:
        (low_a, high_a), (low_b, high_b) = one.limits(1 - p), other.limits(1 - p)
        return low_a > high_b or low_b > high_a

    return least_holding(apart)
