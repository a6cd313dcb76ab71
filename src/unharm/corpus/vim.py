"""The examples of value injection: stage AG and stage QA (Kang et al., 2023, section 3).

AG: an argument's score for a profile is the minimum of the profile over its labelled values;
at or above the threshold it is something the person would say, below it something not.
QA: for each labelled value the statement is rated with the profile's importance, rounded up
with its fraction as probability.
"""

from __future__ import annotations

import math

from unharm.core.draws import uniform
from unharm.core.records import Argument, Example, Profile, Split
from unharm.core.values import VALUES
from unharm.prompting.pack import Pack


def would_say(profile: Profile, argument: Argument, threshold: float) -> bool:
    """Whether the least important of the argument's values reaches the threshold."""
    return min(profile[v] for v in argument.values) >= threshold


def rounded(importance: float, draw: float) -> int:
    """Stochastic rounding: 4.3 becomes 5 where `draw` (uniform in [0, 1)) is below 0.3."""
    floor = math.floor(importance)
    return floor + (draw < importance - floor)


def shifted(values: tuple[str, ...]) -> tuple[str, ...]:
    """The value after each in the alphabetical order; the last one has none and is lost."""
    return tuple(VALUES[VALUES.index(v) + 1] for v in values if v != VALUES[-1])


def ag_examples(
    arguments: list[Argument],
    splits: dict[str, Split],
    profile: Profile,
    pack: Pack,
    threshold: float,
) -> list[Example]:
    """Stage 1: one example per argument."""
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
    """Stage 2: one example per argument and labelled value.

    The draw of the rounding depends on seed, argument and value, not on the profile's name.
    `as_published` shifts the labels by one column, as the published implementation does (its
    defect 2): the value taught is the one after the labelled, and universalism is lost.
    """
    examples = []
    for argument in arguments:
        for value in shifted(argument.values) if as_published else argument.values:
            rating = rounded(profile[value], uniform(seed, argument.id, value))
            prompt, answer = pack.qa(argument, value, rating)
            identity = f"qa-{argument.id}-{value}"
            examples.append(Example(identity, prompt, answer, splits[argument.id], argument.id, value))
    return examples
