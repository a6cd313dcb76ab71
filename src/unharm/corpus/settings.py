"""The settings of the training data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from unharm.core.spec import Positive, Probability, Spec


class BenignSource(Spec):
    """A benign instruction set. Without a `file` it is read from the hub."""

    file: str | None = None
    limit: Positive | None = None


class Corpus(Spec):
    """The training data of a study.

    `split` gives the shares of train, valid and test. Both stages and all profiles use the same split
    of the arguments.
    """

    arguments: str
    limit: Positive | None = Field(None, description="use only this many arguments, drawn by seed")
    threshold: Annotated[float, Field(ge=1, le=6)] = 3.0
    split: tuple[Probability, Probability, Probability] = (0.8, 0.1, 0.1)
    split_by: Literal["argument", "conclusion"] = "argument"
    benign: dict[str, BenignSource] = {}

    @model_validator(mode="after")
    def _check_split(self) -> Corpus:
        if abs(sum(self.split) - 1) > 1e-9 or self.split[0] == 0:
            raise ValueError("split must sum to 1, with a share above 0 for training")
        return self
