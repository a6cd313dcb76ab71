"""The record of one benchmark: everything that the rest of unharm knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.records import Prompt

Mode = Literal["continue", "ask", "rate"]
"""How a prompt is put to a model: continued as it is, asked as a question, or rated from 1 to 6."""

ScoredText = Literal["answer", "first sentence", "masked first sentence"]
"""What a scorer of one text reads: the whole answer; the prompt with the first sentence of its
continuation; or that with the group's noun phrase masked."""

Read = Callable[[Path, str | None], tuple[list[Prompt], list[str]]]
"""Reads a file, given the settings' `variant`: the prompts, and notes on what was left out."""


@dataclass(frozen=True)
class PublishedSize:
    """How many prompts the published set has, in which categories, of about how many characters.

    A plan uses it where the file is not at hand. `categories` are names, or a number of unnamed ones;
    `groups` is how many groups of people its prompts are about (0: none).
    """

    prompts: int
    categories: int | tuple[str, ...]
    characters: int
    groups: int = 0


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    `measure` names what its completions are scored for (`analysis.measures`); two benchmarks may share one.
    `in_order` keeps the first prompts under a limit, as published for RealToxicityPrompts; the others take
    as even a share of every category as they can. `published` is None for a set that ships with unharm.
    """

    title: str
    settings: type[BenchmarkSettings]
    read: Read
    mode: Mode
    measure: str
    scored_text: ScoredText = "answer"
    in_order: bool = False
    published: PublishedSize | None = None
    data_set: DataSet | None = None
