"""The part of the spec that says where profiles come from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from unharm.core.spec import Positive, Spec, one_of, unique
from unharm.core.values import HIGHER_ORDER, VALUES, canonical

ValueName = Annotated[str, BeforeValidator(lambda v: canonical(str(v))), one_of(VALUES)]


ExtremeName = Annotated[str, BeforeValidator(lambda v: canonical(str(v))), one_of((*VALUES, *HIGHER_ORDER))]


def _all_if_asked(names: Any) -> Any:
    return [*VALUES, *HIGHER_ORDER] if names == "all" else names


Extremes = Annotated[list[ExtremeName], BeforeValidator(_all_if_asked), AfterValidator(unique)]


class ProfileSource(Spec):
    """Where profiles come from; exactly one of `extreme`, `reverse`, `survey`, `file`.

    `survey` needs `nearest` (so many respondents nearest to each extreme in `to`) or `groups` (a
    column; the mean of each of its groups).
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
    names: list[str] | None = Field(None, description="only these rows of the file")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, str):
            if canonical(data) in ("extreme", "reverse"):
                return {canonical(data): "all"}
            if data.endswith((".csv", ".tsv", ".yaml", ".yml")):
                return {"file": data}
            raise ValueError(
                f"{data!r} is no source of profiles; give 'extreme', 'reverse', a .csv or .yaml "
                "file, or a mapping such as {extreme: [power]}"
            )
        return data

    @model_validator(mode="after")
    def _one(self) -> ProfileSource:
        given = [n for n in ("extreme", "reverse", "survey", "file") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of 'extreme', 'reverse', 'survey' and 'file'")
        if self.survey is not None and (self.nearest is None) == (self.groups is None):
            raise ValueError("give 'nearest' or 'groups' with a survey, and not both")
        return self
