"""Preferences made of stage 1's labels: what a person would say on a topic, before what they would not.

Both arguments of a pair are on one conclusion, answer one prompt and lie in one split. Of the two kinds of
arguments on a conclusion the rarer one is used several times, so that each of the other kind is used once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unharm.core.draws import rank
from unharm.core.records import Argument, Example, Split
from unharm.prompting.pack import Pack

Pair = tuple[Argument, Argument]
"""An argument that the person would say, and one that they would not."""


def preference_pairs(
    arguments: Sequence[Argument], would: Sequence[bool], splits: Mapping[str, Split], seed: int
) -> list[Pair]:
    """Return the pairs of a profile.

    Args:
        arguments: All arguments.
        would: Whether the person would say each of them.
        splits: The split of each argument, by its id.
        seed: Seed of who is paired with whom.

    Returns:
        The pairs by conclusion and split. A conclusion of which the person would say all arguments, or
        none, has no pair.
    """
    topics: dict[tuple[str, Split], tuple[list[Argument], list[Argument]]] = {}
    for argument, says in zip(arguments, would, strict=True):
        sides = topics.setdefault((argument.conclusion, splits[argument.id]), ([], []))
        sides[0 if says else 1].append(argument)
    pairs: list[Pair] = []
    for sides in topics.values():
        said, unsaid = (sorted(side, key=lambda a: rank(seed, f"pair {a.id}")) for side in sides)
        for n in range(max(len(said), len(unsaid)) if said and unsaid else 0):
            pairs.append((said[n % len(said)], unsaid[n % len(unsaid)]))
    return pairs


def preference_examples(pairs: Sequence[Pair], splits: Mapping[str, Split], pack: Pack) -> list[Example]:
    """Word pairs: two examples each, what the person would say first. Both have the id of the pair.

    `positive` is true for what the person would say. Both answer the prompt of what the person would say.
    """
    examples = []
    for said, unsaid in pairs:
        prompt, chosen = pack.ag(said, True)
        _, rejected = pack.ag(unsaid, True)
        identity = f"dpo-{said.id}-{unsaid.id}"
        for answer, positive in ((chosen, True), (rejected, False)):
            examples.append(Example(identity, prompt, answer, splits[said.id], said.id, "", positive))
    return examples
