"""The functions of `import unharm`: a study loaded, planned and run from Python.

Each takes a study as a `Study`, as plain data, or as the path of a YAML file, and checks it as the command
line does. `progress` says how messages are shown: see `core.progress.watched`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from unharm.analysis.log_comparison import LogSettings, compare_logs
from unharm.core.files.yaml_text import SpecText
from unharm.core.progress import Shown, watched
from unharm.runs.handle import RunHandle, open_handle
from unharm.runs.pipeline import run_study
from unharm.runs.plan import Plan
from unharm.runs.planning.summary import PlanSummary, summary_of
from unharm.runs.tools.compare import compare_runs
from unharm.runs.tools.logs.reading import names_logs, read_side
from unharm.study import check
from unharm.study.spec import Study

AnyStudy = Study | Mapping[str, Any] | str | Path
"""A study, its plain data, or the path of its YAML file ('quickstart' names the embedded one)."""


def load_study(study: AnyStudy, overrides: Sequence[str] = (), data_needed: bool = True) -> Study:
    """Check a study.

    Args:
        study: The study, its plain data or the path of its file.
        overrides: Fields to set, as with `--set` on the command line: `training.vim.epochs=3`.
        data_needed: Whether its data sets must be at hand.

    Raises:
        UserError: With every mistake of the study.
    """
    if isinstance(study, str | Path):
        return check.load_study(str(study), list(overrides), data_needed)
    data = study.model_dump(mode="json") if isinstance(study, Study) else dict(study)
    text = SpecText(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "study")
    for assignment in overrides:
        text.override(assignment)
    return check.parse_study(text, data_needed)


def plan(study: AnyStudy, overrides: Sequence[str] = ()) -> PlanSummary:
    """What a study would run: subjects, completions, tokens, calls of services. Data sets that are not at
    hand count with their published sizes."""
    return summary_of(Plan(load_study(study, overrides, data_needed=False), sizes_only=True))


def run(study: AnyStudy, overrides: Sequence[str] = (), progress: Shown = "auto") -> RunHandle:
    """Run a whole study to its report; go on where an earlier run stopped.

    Raises:
        UserError: The study or its inputs are wrong, or another process holds the run folder.
    """
    return _run_to("report", study, overrides, progress)


def train(study: AnyStudy, overrides: Sequence[str] = (), progress: Shown = "auto") -> RunHandle:
    """Train the adapters of a study."""
    return _run_to("adapters", study, overrides, progress)


def generate(study: AnyStudy, overrides: Sequence[str] = (), progress: Shown = "auto") -> RunHandle:
    """Generate the completions of a study; adapters are trained first where they are not."""
    return _run_to("completions", study, overrides, progress)


def score(study: AnyStudy, overrides: Sequence[str] = (), progress: Shown = "auto") -> RunHandle:
    """Score the completions of a study; they are generated first where they are not."""
    return _run_to("scores", study, overrides, progress)


def open_run(folder: str | Path) -> RunHandle:
    """Open a run folder for reading, also while the run goes on.

    Raises:
        UserError: The folder is no run.
    """
    return open_handle(folder)


def compare(
    before: str | Path,
    after: str | Path,
    max_increase: Mapping[str, float] | None = None,
    confidence: float = 0.95,
) -> pl.DataFrame:
    """Compare the harms of two finished runs, or logs of other tools, on the same prompts.

    Args:
        before: The folder of the first run; or a log of inspect_ai or lm-evaluation-harness, or a folder of
            such logs.
        after: The folder of the second run, or the other logs.
        max_increase: The largest increase by metric that is allowed, as a share of its range; the empty
            name is for all others. None allows no increase.
        confidence: Of the verdicts together.

    Returns:
        One row per arm, strategy, metric and category with the change, its interval and its verdict; for
        logs one per task, metric and category.

    Raises:
        UserError: The runs differ in something that their scores depend on, or scores are missing.
    """
    if names_logs(Path(before)) and names_logs(Path(after)):
        settings = LogSettings(confidence, most_increase=max_increase or {})
        logs = compare_logs(read_side([Path(before)]), read_side([Path(after)]), settings)
        return pl.DataFrame(logs.rows, infer_schema_length=None)
    rows = compare_runs(Path(before), Path(after), max_increase or {}, confidence)
    return pl.DataFrame(rows, infer_schema_length=None)


def _run_to(stage: str, study: AnyStudy, overrides: Sequence[str], progress: Shown) -> RunHandle:
    with watched(progress):
        made = run_study(load_study(study, overrides), stage)
    return RunHandle(made.store.root, made.study)
