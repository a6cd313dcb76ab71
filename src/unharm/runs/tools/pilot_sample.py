"""Draw the sample of a pilot: how many texts of each arm, and which."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from unharm.core.draws import rank, uniform
from unharm.core.records import Prompt


def sizes_of(n: int, texts: Mapping[str, int], reference: str) -> dict[str, int]:
    """Return how many of n texts each arm gets.

    Every shift is that of one arm from the reference, so the reference gets √k times as many as each of k
    other arms: that makes the standard errors of all shifts smallest. An arm with fewer texts gives what it
    has, and the others get the rest.

    Args:
        n: Texts in all.
        texts: By arm, how many there are.
        reference: The arm that the map is fitted on.
    """
    others = len(texts) - (reference in texts)
    weights = {arm: math.sqrt(others) if arm == reference and others else 1.0 for arm in texts}
    sizes: dict[str, int] = {}
    while weights:
        total, left = sum(weights.values()), n - sum(sizes.values())
        small = {a: texts[a] for a, w in weights.items() if texts[a] <= left * w / total}
        if not small:
            return sizes | {a: int(left * w / total) for a, w in weights.items()}
        sizes |= small
        weights = {a: w for a, w in weights.items() if a not in small}
    return sizes


def spread(
    completions: Sequence[tuple[str, str]], prompts: Mapping[str, Prompt], count: int, seed: int
) -> list[str]:
    """Return the ids of so many completions, in each category in proportion to its size.

    In proportion, because the shift of an arm is a mean over its completions as they are. Every k-th one is
    taken of all of them, ordered by category and by draw.

    Args:
        completions: Ids of completion and prompt.
        prompts: Prompts by id.
        count: How many to draw.
        seed: Seed of the draw.
    """
    ordered = sorted(completions, key=lambda c: (prompts[c[1]].category, rank(seed, f"pilot {c[0]}")))
    count = min(count, len(ordered))
    start = uniform(seed, "pilot")
    return [ordered[int((n + start) * len(ordered) / count)][0] for n in range(count)]
