"""Random draws that depend only on a seed and a text, not on order, machine or library version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from unharm.core.records import Split


def rank(seed: int, text: str) -> str:
    """Return a hash to sort texts by in a random order.

    The first n texts of that order are always part of the first n + 1.
    """
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()


def uniform(seed: int, *parts: str) -> float:
    """Return a number in [0, 1) that depends only on the seed and the parts."""
    return int(rank(seed, "/".join(parts))[:16], 16) / 2**64


def split(units: Iterable[str], shares: tuple[float, float, float], seed: int) -> dict[str, Split]:
    """Assign every distinct unit to train, valid or test.

    Args:
        units: Names to split; duplicates count once.
        shares: Shares of train, valid and test. Train gets at least one unit.
        seed: Seed of the draw.
    """
    order = sorted(set(units), key=lambda unit: rank(seed, "split/" + unit))
    first = max(1, round(shares[0] * len(order)))
    second = first + round(shares[1] * len(order))
    return {
        unit: "train" if place < first else "valid" if place < second else "test"
        for place, unit in enumerate(order)
    }
