"""Base class and field types of all settings in a study."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from unharm.core.errors import nearest

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """Base class of settings: unknown fields are errors, instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def one_of(names: tuple[str, ...]) -> AfterValidator:
    """Return a validator that accepts only the given names."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"unknown name {name!r}; {nearest(name, names)}")
        return name

    return AfterValidator(check)


def unique(names: list[str]) -> list[str]:
    """Return `names` unchanged. Raise `ValueError` if a name occurs twice."""
    duplicates = sorted({n for n in names if names.count(n) > 1})
    if duplicates:
        raise ValueError(f"given twice: {', '.join(duplicates)}")
    return names
