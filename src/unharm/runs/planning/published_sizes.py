"""Placeholders for missing data sets, with as many items as the published set.

They are used only in plans and dry runs. Their lengths are close to those of the published texts, so that
estimates of tokens are about right.
"""

from __future__ import annotations

from typing import Literal

from unharm.benchmarks.registry import BENCHMARKS, PromptSet
from unharm.core.draws import rank
from unharm.core.records import Argument, Example, Profile, Prompt, Split
from unharm.core.values import VALUES
from unharm.corpus.benign import BenignSet
from unharm.corpus.data_sets import DATA_SETS
from unharm.profiles.extreme import extreme
from unharm.profiles.settings import ProfileSource

BENIGN = {"alpaca": 52_002, "dolly": 15_011, "grammar": 14_000, "samsum": 16_369}
"""Number of examples in the published instruction sets."""

PREMISE, INSTRUCTION, ANSWER = 160, 200, 250
"""Typical characters of an argument, an instruction and its answer."""


def _absent(count: int) -> str:
    """Return the note for a missing file."""
    return f"its file is missing; planned at the published size ({count:,})"


def prompts(name: str, limit: int | None) -> PromptSet:
    """Return placeholders for the prompts of a benchmark. Categories of a questionnaire are the values."""
    size = BENCHMARKS[name].published
    if size is None:
        raise ValueError(f"{name} ships with unharm: it is never planned at a published size")
    count = min(size.prompts, limit or size.prompts)
    categories = (
        [f"category {n + 1}" for n in range(size.categories)]
        if isinstance(size.categories, int)
        else list(size.categories)
    )
    placeholders = [
        Prompt(
            f"{name}-{n}",
            filled(f"{name} {n}", size.characters),
            categories[n % len(categories)],
            {"group": f"group {n % size.groups}", "descriptor": f"group {n % size.groups}"}
            if size.groups
            else {},
        )
        for n in range(count)
    ]
    return PromptSet(name, placeholders, [_absent(count)])


def profiles(source: ProfileSource) -> list[Profile]:
    """Return placeholders for the respondents nearest to each extreme profile. A group counts as one."""
    return [
        Profile(f"{name}-near-{n}", _jittered(name, n), "placeholder")
        for name in source.to
        for n in range(1, (source.nearest or 1) + 1)
    ]


def _jittered(name: str, number: int) -> tuple[float, ...]:
    """Return an extreme profile moved towards the middle, differently for each number."""
    return tuple(
        round(3.5 + (x - 3.5) * (0.4 + 0.5 * int(rank(number, f"{name} {v}")[:4], 16) / 0xFFFF), 3)
        for v, x in zip(VALUES, extreme(name).importances, strict=True)
    )


def arguments() -> list[Argument]:
    """Return placeholders for the arguments. Each appeals to two values."""
    placeholders = []
    for n in range(DATA_SETS["arguments"].sizes[0]):
        values = dict.fromkeys((VALUES[n % 10], VALUES[n // 10 % 10]))
        stance: Literal["in favor of", "against"] = "against" if n % 2 else "in favor of"
        premise = filled(f"premise {n}", PREMISE)
        placeholders.append(Argument(f"A{n}", f"conclusion {n % 400}", stance, premise, tuple(values)))
    return placeholders


def benign(name: str, limit: int | None, shares: tuple[float, float, float]) -> BenignSet:
    """Return placeholders for an instruction set."""
    count = min(BENIGN[name], limit or BENIGN[name])
    train = round(shares[0] * count)

    def part(n: int) -> Split:
        return "train" if n < train else "valid"

    return BenignSet(
        [
            Example(f"{name}-{n}", filled(f"{name} {n}", INSTRUCTION), "x" * ANSWER, part(n), str(n))
            for n in range(count)
        ],
        [_absent(count)],
    )


def filled(start: str, characters: int) -> str:
    """Return `start` with words added up to a number of characters."""
    return f"{start} {'word ' * (characters // 5)}"[:characters]
