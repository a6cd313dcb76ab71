"""What the commands share: arguments, options, running up to a stage, and reporting the outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unharm.core.terminal import tell, warn

if TYPE_CHECKING:
    from unharm.runs.context import Run

StudyArg = Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or 'quickstart'.")]
RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/quickstart.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the study.")
]
ExecutorOption = Annotated[
    str | None, typer.Option("--executor", metavar="local|ray", help="Where to run the work.")
]
IntoOption = Annotated[
    Path | None, typer.Option("--into", metavar="FOLDER", help="The run folder, in place of 'output'.")
]
KeepOption = Annotated[
    bool, typer.Option("--keep", help="Keep checkpoints and rows of unfinished tables after success.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over files that exist already.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


def run_to(
    study: str,
    overrides: list[str] | None,
    stage: str,
    as_json: bool,
    executor: str | None = None,
    export: Path | None = None,
    into: Path | None = None,
    keep: bool = False,
) -> None:
    """Run a study up to a stage and report the outcome.

    Args:
        study: The study file, or `quickstart`.
        overrides: Assignments of `--set`.
        stage: The last stage to run.
        as_json: Print the outcome as JSON.
        executor: Overrides `executor.name`.
        export: Copy the adapters, and the shifts of steer arms, into this folder.
        into: Overrides `output`.
        keep: Whether checkpoints stay after success.

    Raises:
        typer.Exit: With code 3 if the run is incomplete (see `report_outcome`).
    """
    from unharm.core.arms import steering
    from unharm.runs.pipeline import run_study
    from unharm.study.check import load_study

    by_option = [f"executor.name={executor}"] if executor else []
    by_option += [f"output={json.dumps(str(into))}"] if into else []
    spec = load_study(study, [*(overrides or []), *by_option])
    if export and any(map(steering, spec.arms)):
        stage = "steering"
    run = run_study(spec, stage, keep)
    report_outcome(run, stage, as_json, export)


def report_outcome(run: Run, stage: str, as_json: bool, export: Path | None = None) -> None:
    """Print the outcome of a run and what is incomplete.

    Args:
        run: The run.
        stage: The last stage that ran.
        as_json: Print the outcome as one line of JSON.
        export: Copy the adapters into this folder first.

    Raises:
        typer.Exit: With code 3 if completions are unscored, or adapters or tasks failed.
    """
    from unharm.runs.adapters import failed_names

    failed_adapters, failed_tasks = failed_names(run), run.workers.failures
    result: dict[str, Any] = {
        "run": str(run.store),
        "stage": stage,
        "scored": run.scored,
        "unscored": run.unscored,
        "failed_adapters": failed_adapters,
        "failed_tasks": failed_tasks,
        "complete": not run.unscored and not failed_adapters and not failed_tasks,
    }
    if stage == "report":
        result["report"] = str(run.store.root / "report.html")
    if export:
        from unharm.runs.tools.export import export_adapters
        from unharm.runs.tools.export_steering import export_steering

        adapters, shifts = export_adapters(run, export), export_steering(run, export)
        result["exported"] = [str(path) for path in (*adapters, *shifts)]
        steered = f", {len(shifts)} folders of value vectors and shifts," if shifts else ""
        warn(f"{len(adapters)} adapters{steered} exported to {export}")
    if as_json:
        tell(json.dumps(result))
    if run.unscored:
        warn(
            f"incomplete: {run.unscored:,} completions are unscored (exit code 3); "
            "findings/unscored.csv and the report give the reasons"
        )
    if failed_adapters:
        warn(
            f"incomplete: {len(failed_adapters)} adapters could not be trained (exit code 3); "
            "change training.vim.lr or seed to train them again"
        )
    if failed_tasks:
        names = "".join(f"\n    {name}" for name in failed_tasks[:20])
        warn(
            f"incomplete: {len(failed_tasks)} tasks failed twice (exit code 3); see failed/details/; "
            f"run the same command to try them again{names}"
        )
    if not result["complete"]:
        raise typer.Exit(3)
