"""The settings that say where profiles come from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from unharm.core.spec import NUMBER, Positive, Spec, one_of, unique
from unharm.core.values import HIGHER_ORDER, VALUES, canonical

ValueName = Annotated[str, BeforeValidator(lambda v: canonical(str(v))), one_of(VALUES)]

ExtremeName = Annotated[str, BeforeValidator(lambda v: canonical(str(v))), one_of((*VALUES, *HIGHER_ORDER))]


def _expand_all(names: Any) -> Any:
    return [*VALUES, *HIGHER_ORDER] if names == "all" else names


Extremes = Annotated[list[ExtremeName], BeforeValidator(_expand_all), AfterValidator(unique)]

Strength = Annotated[float, NUMBER, Field(ge=0.01, le=1)]


class ProfileSource(Spec):
    """One source of profiles: exactly one of `extreme`, `reverse`, `survey`, `file`.

    A `survey` needs either `nearest` (the number of respondents nearest to each extreme in `to`) or
    `groups` (a column: one profile per group, its mean). A `strength` below 1 gives every profile a weaker
    copy, named `power-strength-0.5`.
    """

    extreme: Extremes | None = None
    reverse: Extremes | None = None
    survey: str | None = None
    nearest: Positive | None = None
    to: Extremes = [*VALUES, *HIGHER_ORDER]
    groups: str | None = None
    items: str = "ess"
    ipsatise: bool = False
    file: str | None = None
    names: list[str] | None = Field(None, description="use only these profiles of the file")
    strength: Annotated[tuple[Strength, ...], Field(min_length=1)] = Field(
        (1,), description="draw the importances towards their mean: 0.5 halves a profile's differences"
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, data: Any) -> Any:
        if isinstance(data, str):
            if canonical(data) in ("extreme", "reverse"):
                return {canonical(data): "all"}
            if data.endswith((".csv", ".tsv", ".yaml", ".yml")):
                return {"file": data}
            raise ValueError(
                f"{data!r} is not a source of profiles; give 'extreme', 'reverse', a .csv or .yaml "
                "file, or a mapping such as {extreme: [power]}"
            )
        return data

    @model_validator(mode="after")
    def _check_one_source(self) -> ProfileSource:
        given = [n for n in ("extreme", "reverse", "survey", "file") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of 'extreme', 'reverse', 'survey' and 'file'")
        if self.survey is not None and (self.nearest is None) == (self.groups is None):
            raise ValueError("give either 'nearest' or 'groups' with a survey, not both")
        return self
