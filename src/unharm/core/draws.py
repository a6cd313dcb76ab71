"""Draws that depend on a seed and a text alone: not on order, machine or library."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from unharm.core.records import Split


def rank(seed: int, text: str) -> str:
    """A hash by which texts are put into a random order; a smaller draw is part of a larger one."""
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()


def uniform(seed: int, *parts: str) -> float:
    """A number in [0, 1)."""
    return int(rank(seed, "/".join(parts))[:16], 16) / 2**64


def split(units: Iterable[str], shares: tuple[float, float, float], seed: int) -> dict[str, Split]:
    """Train, valid or test for every different unit, in the given shares; train has at least one."""
    order = sorted(set(units), key=lambda unit: rank(seed, "split/" + unit))
    first = max(1, round(shares[0] * len(order)))
    second = first + round(shares[1] * len(order))
    return {
        unit: "train" if place < first else "valid" if place < second else "test"
        for place, unit in enumerate(order)
    }
