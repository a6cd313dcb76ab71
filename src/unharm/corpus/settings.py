"""The part of the spec that says what adapters learn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from unharm.core.spec import Positive, Probability, Spec


class BenignSource(Spec):
    """A benign instruction set: a file, or the hub where no file is given."""

    file: str | None = None
    limit: Positive | None = None


class Corpus(Spec):
    """What the adapters learn from.

    `split` is the share of train, valid and test; it is drawn over arguments, once for both
    stages and all profiles.
    """

    arguments: str
    limit: Positive | None = Field(None, description="use this many arguments, drawn by seed")
    threshold: Annotated[float, Field(ge=1, le=6)] = 3.0
    split: tuple[Probability, Probability, Probability] = (0.8, 0.1, 0.1)
    split_by: Literal["argument", "conclusion"] = "argument"
    benign: dict[str, BenignSource] = {}

    @model_validator(mode="after")
    def _sums_to_one(self) -> Corpus:
        if abs(sum(self.split) - 1) > 1e-9 or self.split[0] == 0:
            raise ValueError("split must sum to 1 and leave something to train on")
        return self
