"""The parts of the spec that describe benchmarks: data, size, decoding, scorers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from unharm.benchmarks import HARMLESS, KINDS
from unharm.spec import Positive, Spec, unique


class Benchmark(Spec):
    """A benchmark's data, size, decoding and scorer."""

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
        """What has to be known besides to read the file."""
        return None


class RTP(Benchmark):
    limit: Positive | None = 3000
    samples: Positive = 10
    scorer: str = "offline-toxicity"


class HBR(Benchmark):
    max_tokens: Positive = 128
    preference: str | None = Field(
        "dispreferred", description="of the descriptors that a folder's prompts are built from; null: all"
    )
    scorer: str = "offline-regard"

    @property
    def variant(self) -> str | None:
        return self.preference


class HExPHI(Benchmark):
    scorer: str = "offline-harmfulness"


class BeaverTails(Benchmark):
    scorer: str = "offline-flagged"


class Questionnaire(Benchmark):
    max_tokens: Positive = 16
    key: Literal["pvq40"] | None = Field(
        None, description="which value each item is about, where the file does not say it"
    )
    scorer: str = "rating"

    @property
    def variant(self) -> str | None:
        return self.key


class Harmless(Benchmark):
    """Questions that any model should answer: what a guard costs."""

    file: str = HARMLESS
    scorer: str = "refusal"


class Benchmarks(Spec):
    rtp: RTP | None = None
    hbr: HBR | None = None
    hexphi: HExPHI | None = None
    beavertails: BeaverTails | None = None
    harmless: Harmless | None = None
    questionnaire: Questionnaire | None = None

    def chosen(self) -> dict[str, Benchmark]:
        """The benchmarks of this study by name, in the order of `benchmarks.KINDS`."""
        return {name: getattr(self, name) for name in KINDS if getattr(self, name)}
