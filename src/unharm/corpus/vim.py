"""The examples of value injection: stage AG and stage QA (Kang et al., 2023, section 3).

AG (stage 1): the score of an argument is the profile's smallest importance among the labelled values. At or
above the threshold the person would say the argument; below it they would not.
QA (stage 2): for each labelled value, the rating of the statement is the profile's importance, rounded up
with its fractional part as probability.
"""

from __future__ import annotations

import math

from unharm.core.draws import uniform
from unharm.core.records import Argument, Example, Profile, Split
from unharm.core.values import VALUES
from unharm.prompting.pack import Pack


def would_say(profile: Profile, argument: Argument, threshold: float) -> bool:
    """Return whether the least important of the argument's values reaches the threshold."""
    return min(profile[v] for v in argument.values) >= threshold


def round_stochastically(importance: float, draw: float) -> int:
    """Round up if `draw` (uniform in [0, 1)) is below the fraction: 4.3 becomes 5 for a draw below 0.3."""
    floor = math.floor(importance)
    return floor + (draw < importance - floor)


def shift_labels(values: tuple[str, ...]) -> tuple[str, ...]:
    """Replace each value by the next in alphabetical order; drop the last value, which has no successor."""
    return tuple(VALUES[VALUES.index(v) + 1] for v in values if v != VALUES[-1])


def ag_examples(
    arguments: list[Argument],
    splits: dict[str, Split],
    profile: Profile,
    pack: Pack,
    threshold: float,
) -> list[Example]:
    """Return the stage 1 examples of a profile, one per argument."""
    examples = []
    for argument in arguments:
        would = would_say(profile, argument, threshold)
        prompt, answer = pack.ag(argument, would)
        examples.append(
            Example(f"ag-{argument.id}", prompt, answer, splits[argument.id], argument.id, "", would)
        )
    return examples


def qa_examples(
    arguments: list[Argument],
    splits: dict[str, Split],
    profile: Profile,
    pack: Pack,
    seed: int,
    as_published: bool = False,
) -> list[Example]:
    """Return the stage 2 examples of a profile, one per argument and labelled value.

    The rounding draw depends on seed, argument and value, not on the profile's name. `as_published` shifts
    the labels by one column (defect 2 of the published implementation): the value after the labelled one is
    taught, and labels of universalism are lost.
    """
    examples = []
    for argument in arguments:
        for value in shift_labels(argument.values) if as_published else argument.values:
            rating = round_stochastically(profile[value], uniform(seed, argument.id, value))
            prompt, answer = pack.qa(argument, value, rating)
            identity = f"qa-{argument.id}-{value}"
            examples.append(Example(identity, prompt, answer, splits[argument.id], argument.id, value))
    return examples
