"""What every part of the spec is built on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from unharm.core.errors import nearest

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class Spec(BaseModel):
    """The base of every part: unknown fields are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def one_of(names: tuple[str, ...]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"unknown name {name!r}; {nearest(name, names)}")
        return name

    return AfterValidator(check)


def unique(names: list[str]) -> list[str]:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"given twice: {', '.join(twice)}")
    return names
