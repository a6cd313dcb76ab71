"""The two halves of a study's profiles: values and guards are chosen on the first and tried on the second.

The halves of prompts are those of `benchmarks.registry.select_half`.
"""

from __future__ import annotations

from unharm.core.draws import rank


def profile_halves(names: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Split profile names in two random halves, each in the original order."""
    ordered = sorted(names, key=lambda n: rank(seed, f"half {n}"))
    first = set(ordered[::2])
    return [n for n in names if n in first], [n for n in names if n not in first]
