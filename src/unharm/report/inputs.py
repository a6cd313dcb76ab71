"""What the report is made of: the facts of the study and its tables, without any run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from unharm.analysis.settings import Analysis


@dataclass(frozen=True)
class ReportedStudy:
    """What the report says of a study. `settings` is the whole spec as plain data."""

    name: str
    base: str
    arms: list[str]
    strategies: list[str]
    seed: int
    fidelity: str
    analysis: Analysis
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ShownCompletion:
    """One completion as it is shown: all texts are raw and must be escaped."""

    benchmark: str
    subject: str
    category: str
    prompt: str
    completion: str
    score: float | None


@dataclass(frozen=True)
class TriedGuards:
    """What mitigation found on the second half: its comparisons, the values that were learned for each
    category, and the guard prompts."""

    comparisons: pl.DataFrame
    learned: list[dict[str, Any]]
    guards: list[dict[str, Any]]


@dataclass(frozen=True)
class ReportInputs:
    """Everything on the page.

    Attributes:
        study: The study.
        folder: Where the run is, as it is written in commands.
        tables: The tables of `analysis.schemas.SCHEMAS`.
        curves: The adapters' loss curves, `run.adapters.CURVES`.
        record: The manifest.
        profiles: How many profiles there are.
        stand_ins: The benchmark's title, the name and the description of every stand-in scorer.
        failed: The adapters that are left out, and why.
        notes: The title of a benchmark with a note on its prompts.
        examples: Completions to look at.
        tried: What mitigation found; None where nothing was tried.
    """

    study: ReportedStudy
    folder: str
    tables: Mapping[str, pl.DataFrame]
    curves: pl.DataFrame
    record: Mapping[str, Any]
    profiles: int
    stand_ins: list[tuple[str, str, str]]
    failed: Mapping[str, str]
    notes: list[tuple[str, str]]
    examples: list[ShownCompletion]
    tried: TriedGuards | None = None
