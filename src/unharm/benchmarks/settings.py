"""What the settings of all benchmarks have in common: data, size, decoding, scorers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from unharm.core.spec import Positive, Spec, unique


class BenchmarkSettings(Spec):
    """A benchmark's data, size, decoding and scorers in a study."""

    file: str
    limit: Positive | None = None
    samples: Positive = 1
    max_tokens: Positive = 64
    temperature: Annotated[float, Field(ge=0)] = 0.1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.75
    stop: list[Annotated[str, Field(min_length=1)]] = []
    scorer: str
    also: Annotated[list[str], AfterValidator(unique)] = Field(
        [], description="scorers that look at the same completions, for their agreement with `scorer`"
    )
    human: str | None = Field(None, description="a file with labels of people; it counts from this folder")
    half: Literal["a", "b"] | None = Field(None, description="only this half of the prompts, drawn by seed")
    mapped: str | None = Field(
        None, description="a map of 'unharm calibrate': metrics as by another scorer"
    )

    @property
    def scorers(self) -> list[str]:
        """Every scorer of the benchmark; the metrics are made of the first one's scores."""
        return [self.scorer, *self.also]

    @property
    def variant(self) -> str | None:
        """What the reader has to know besides the file; None where it needs nothing."""
        return None

    @property
    def embedded(self) -> Path | None:
        """The file that ships with unharm, where the settings choose it; None for a file of the user's."""
        return None
