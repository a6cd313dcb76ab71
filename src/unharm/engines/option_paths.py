"""Which next tokens decide about options, for engines that give the probabilities of chosen next tokens.

The probability of an option is the product over its tokens from where it leaves the prompt. With the prompt
`a b` and the options `3` and `1 0`:

    a b | 3      needs the probability of 3 after a b
    a b | 1 0    needs that of 1 after a b, and that of 0 after a b 1

so two texts are completed by one token: `a b` (3 and 1 are asked for) and `a b 1` (0 is asked for).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Path = tuple[int, ...]


def option_paths(prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> dict[Path, list[int]]:
    """Return for each text (as tokens) the next tokens that are asked for.

    Args:
        prompt: Tokens of the prompt.
        answers: For each option: tokens of the prompt with the option after it.
    """
    paths: dict[Path, list[int]] = {}
    for ids in answers:
        for place in range(_common(prompt, ids), len(ids)):
            wanted = paths.setdefault(tuple(ids[:place]), [])
            if ids[place] not in wanted:
                wanted.append(ids[place])
    return paths


def multiply(
    prompt: Sequence[int], answers: Sequence[Sequence[int]], logs: Mapping[Path, Mapping[int, float]]
) -> tuple[float, ...]:
    """Return the probability of each option from the log probabilities of next tokens.

    Args:
        prompt: Tokens of the prompt.
        answers: For each option: tokens of the prompt with the option after it.
        logs: For each text of `option_paths`: the log probabilities of the tokens asked for.
    """
    return tuple(
        math.exp(math.fsum(logs[tuple(ids[:p])][ids[p]] for p in range(_common(prompt, ids), len(ids))))
        for ids in answers
    )


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two texts share at their beginning; at least one token of `other` is left."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
    return max(1, min(same, len(other) - 1))
