"""The training seeds of a study: how often each adapter is trained, and for which profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from unharm.core.spec import Seed, Spec

MOST_SEEDS = 20
"""More seeds than this are a slip of the keyboard: the cost of a study grows with them."""


def _distinct(values: list[int]) -> list[int]:
    """Check the number of seeds, and that none occurs twice."""
    if not values:
        raise ValueError("give at least one seed")
    if len(values) > MOST_SEEDS:
        raise ValueError(f"give at most {MOST_SEEDS} seeds")
    if duplicates := sorted({v for v in values if values.count(v) > 1}):
        raise ValueError(f"given twice: {', '.join(map(str, duplicates))}")
    return values


def _some_profiles(value: Any) -> Any:
    """Accept a number of profiles, or a list of their names."""
    count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000
    names = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    if value is None or count or names:
        return value
    raise ValueError("give the names of profiles, or how many of the first: 1 to 10,000")


class Seeds(Spec):
    """Training seeds. Each seed has its own first weights, order of examples and dropout.

    Data are drawn by the study's `seed` alone, so that all seeds learn from the same examples.
    """

    values: Annotated[list[Seed], AfterValidator(_distinct)]
    profiles: Annotated[list[str] | int | None, BeforeValidator(_some_profiles)] = Field(
        None,
        description="the profiles that are trained with every seed, by name, or the first so many; the "
        "others are trained with the first seed alone; all profiles where left out",
    )

    def of_profile(self, name: str, names: Sequence[str]) -> list[int]:
        """Return the seeds of a profile of a study.

        Args:
            name: The profile.
            names: All profiles of the study, in their order.
        """
        if self.profiles is None:
            return self.values
        chosen = self.profiles if isinstance(self.profiles, list) else names[: self.profiles]
        return self.values if name in chosen else self.values[:1]

    def of_subset(self, subset: Sequence[str], names: Sequence[str]) -> Seeds:
        """Return the seeds of a study of some of these profiles, each with the seeds that it has here."""
        several = [name for name in subset if len(self.of_profile(name, names)) > 1]
        if not several:
            return Seeds(values=self.values[:1])
        return Seeds(values=self.values, profiles=None if len(several) == len(subset) else several)


def _written(value: Any) -> Any:
    """Accept a plain list of seeds."""
    if value is None or isinstance(value, dict | Seeds):
        return value
    if isinstance(value, list):
        return {"values": value}
    raise ValueError("give a list of seeds, such as [1, 2, 3]; the seed of data is the field 'seed'")


SeedsField = Annotated[Seeds | None, BeforeValidator(_written)]
