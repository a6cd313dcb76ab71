"""The inputs of the report: facts about the study, and tables. Nothing here needs a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from unharm.analysis.settings import Analysis


@dataclass(frozen=True)
class ReportedStudy:
    """The facts about a study that the report shows. `settings` is the whole spec as plain data."""

    name: str
    base: str
    arms: list[str]
    strategies: list[str]
    seed: int
    fidelity: str
    analysis: Analysis
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class ExampleCompletion:
    """One completion to show as an example. Its texts are raw and must be escaped."""

    benchmark: str
    subject: str
    category: str
    prompt: str
    completion: str
    score: float | None


@dataclass(frozen=True)
class MitigationResult:
    """The result of mitigation: comparisons on the second half, learned values, guard prompts."""

    comparisons: pl.DataFrame
    learned: list[dict[str, Any]]
    guards: list[dict[str, Any]]


@dataclass(frozen=True)
class ReportInputs:
    """Everything that the page shows.

    Attributes:
        study: The study.
        folder: The path of the run, as used in commands.
        tables: The tables of `analysis.schemas.SCHEMAS`.
        curves: The adapters' loss curves, `run.adapters.CURVES`.
        record: The manifest.
        profiles: Number of profiles.
        stand_ins: For each stand-in scorer: title of the benchmark, name and description of the scorer.
        hardly_trained: Sentences on arms whose training loss hardly fell.
        failed: The adapters that are left out, each with the reason.
        notes: Notes on the prompts, each with the title of its benchmark.
        examples: Completions to show.
        mitigation: The result of mitigation; None if there is none.
        unequal: Sentences on controls that are trained for far fewer or far more steps.
    """

    study: ReportedStudy
    folder: str
    tables: Mapping[str, pl.DataFrame]
    curves: pl.DataFrame
    record: Mapping[str, Any]
    profiles: int
    stand_ins: list[tuple[str, str, str]]
    hardly_trained: list[str]
    failed: Mapping[str, str]
    notes: list[tuple[str, str]]
    examples: list[ExampleCompletion]
    mitigation: MitigationResult | None = None
    unequal: Sequence[str] = ()
