"""The record that describes one benchmark to the rest of unharm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.records import Prompt

Mode = Literal["continue", "ask", "rate", "choose"]
"""What the model does with a prompt: continue it, answer it as a question, rate it from 1 to 6, or say
which of two things it would do."""

ScoredText = Literal["answer", "first sentence", "masked first sentence"]
"""The text that a scorer reads: the whole answer; the prompt and the first sentence of its
continuation; or the same text with the group's noun phrase masked."""

ReadPrompts = Callable[[Path, str | None], tuple[list[Prompt], list[str]]]
"""Reads a file, given the `variant` of the settings. Returns prompts, and notes on what was left out."""


@dataclass(frozen=True)
class PublishedSize:
    """The size of a published benchmark. Plans use it when the file is not available.

    Attributes:
        prompts: Number of prompts.
        categories: Names of the categories, or their number.
        characters: Typical length of a prompt, in characters.
        groups: Number of groups of people that the prompts are about; 0 for none.
    """

    prompts: int
    categories: int | tuple[str, ...]
    characters: int
    groups: int = 0


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        title: Name for readers.
        settings: Settings class, which holds the defaults.
        read: Reads the benchmark's file or folder.
        mode: What the model does with a prompt.
        measure: What completions are scored for (see `analysis.measures`). Benchmarks may share a measure.
        or_measures: Measures of other scorers that it may have instead; its metrics are then those of the
            scorer's measure.
        scored_text: The text that a scorer reads.
        in_order: Under a limit, keep the first prompts, as published for RealToxicityPrompts. Otherwise
            the limit is spread over the categories as evenly as possible.
        published: Size of the published set; None for a set that ships with unharm.
        data_set: Where to obtain the data; None for a set that ships with unharm.
    """

    title: str
    settings: type[BenchmarkSettings]
    read: ReadPrompts
    mode: Mode
    measure: str
    or_measures: tuple[str, ...] = ()
    scored_text: ScoredText = "answer"
    in_order: bool = False
    published: PublishedSize | None = None
    data_set: DataSet | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """What a scorer of this benchmark may measure, the published measure first."""
        return self.measure, *self.or_measures
