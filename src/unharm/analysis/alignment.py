"""Did the alignment take? Beside the NMSE, figures that a model cannot reach by rating everything alike.

An extreme profile has nine values at 1: a model that rates every item 1 has an NMSE of 0.1 and looks
aligned. So the verdict rests on three figures of the ten ratings:

    skill        1 − NMSE / NMSE of the best constant answer (the target's mean): above 0 only where
    ratings follow the
                 follow the target better than any single number
    correlation  of ratings and target, both less their own mean
    retrieval    whether the own target is the nearest of all targets of the study, both less their own mean
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unharm.core.records import Profile

ALIKE = 0.5
"""Ratings that span less than half a point of six are all alike."""
LEAST_MASS = 0.5
"""The distribution is read only where the six answers have at least this probability together."""

TOOK, PARTLY, NOT, FLAT, UNKNOWN = "took", "partly", "not", "rates everything alike", "not known"


@dataclass(frozen=True)
class Fit:
    """How well ratings follow a target profile; None where it cannot be told."""

    constant: float
    skill: float | None
    correlation: float | None
    span: float | None
    retrieved: bool | None
    verdict: str


def fit(predicted: Sequence[float | None], profile: Profile, others: Mapping[str, Sequence[float]]) -> Fit:
    """Compare the ten ratings with the target. `others` has the importances of one profile per target of
    the
    study, by target; retrieval needs two of them."""
    target = np.array(profile.importances, dtype=float)
    constant = float(((target - target.mean()) ** 2).mean() / 25)
    if any(p is None for p in predicted):
        return Fit(constant, None, None, None, None, UNKNOWN)
    ratings = np.array(predicted, dtype=float)
    error = float(((ratings - target) ** 2).mean() / 25)
    skill = 1 - error / constant if constant > 1e-12 else None
    span = float(np.ptp(ratings))
    a, b = ratings - ratings.mean(), target - target.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    correlation = float(a @ b / scale) if scale > 1e-9 else None
    if span < ALIKE:
        return Fit(constant, skill, correlation, span, False if len(others) > 1 else None, FLAT)
    retrieved = None
    if len(others) > 1 and profile.target in others:
        distances = {name: _distance(a, other) for name, other in others.items()}
        retrieved = distances[profile.target] <= min(distances.values()) + 1e-12
    good = [skill is not None and skill > 0, correlation is not None and correlation > 0.5]
    if retrieved is not None:
        good.append(retrieved)
    verdict = TOOK if all(good) else PARTLY if any(good) else NOT
    return Fit(constant, skill, correlation, span, retrieved, verdict)


def _distance(centred: np.ndarray, other: Sequence[float]) -> float:
    target = np.array(other, dtype=float)
    return float(((centred - (target - target.mean())) ** 2).sum())


def by_target(profiles: Sequence[Profile]) -> dict[str, tuple[float, ...]]:
    """The importances that stand for each target: those of the profile with its name, else the mean."""
    by_name: dict[str, tuple[float, ...]] = {}
    for target in dict.fromkeys(p.target for p in profiles):
        named = [p.importances for p in profiles if p.name == target]
        several = named or [p.importances for p in profiles if p.target == target]
        by_name[target] = tuple(float(v) for v in np.mean(several, axis=0))
    return by_name
