"""The settings that all benchmarks share: data, size, decoding, scorers."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from unharm.core.spec import Count, Few, Positive, Spec, Temperature, unique

EMBEDDED = "embedded"
"""The value of `file` that selects the file that ships with unharm."""


def embedded_file(name: str) -> Path:
    """Return the path of a file of this package."""
    return Path(str(resources.files("unharm.benchmarks"))) / name


class BenchmarkSettings(Spec):
    """The data, size, decoding and scorers of a benchmark in a study."""

    ships: ClassVar[str] = ""
    """The file that ships with unharm, by its name in this folder; empty where there is none."""

    file: str
    limit: Positive | None = None
    samples: Few = 1
    max_tokens: Count = 64
    temperature: Temperature = 0.1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.75
    stop: list[Annotated[str, Field(min_length=1)]] = []
    scorer: str
    also: Annotated[list[str], AfterValidator(unique)] = Field(
        [], description="further scorers of the same completions, to measure their agreement with `scorer`"
    )
    human: str | Annotated[list[str], Field(min_length=1), AfterValidator(unique)] | None = Field(
        None, description="files with human labels, one or several, relative to the current folder"
    )
    half: Literal["a", "b"] | None = Field(
        None, description="use only this half of the prompts, drawn by seed"
    )
    mapped: str | None = Field(
        None,
        description="a map of 'unharm calibrate': metrics in the units of another scorer",
    )

    @property
    def scorers(self) -> list[str]:
        """All scorers of the benchmark. Metrics use the scores of the first one."""
        return [self.scorer, *self.also]

    @property
    def label_files(self) -> list[Path]:
        """The files with human labels."""
        names = [self.human] if isinstance(self.human, str) else self.human or []
        return [Path(name).expanduser() for name in names]

    @property
    def variant(self) -> str | None:
        """What the reader must know besides the path; None if it needs nothing."""
        return None

    @property
    def embedded(self) -> Path | None:
        """The path of the file that ships with unharm, if chosen; None for a user's file."""
        return embedded_file(self.ships) if self.ships and self.file == EMBEDDED else None
