"""What every command shares: the study argument, `--set`, `--json`, and running up to a stage."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unharm.runs.context import Run

StudyArg = Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or 'quickstart'.")]
RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/quickstart.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the study.")
]
ExecutorOption = Annotated[
    str | None, typer.Option("--executor", metavar="local|ray", help="Where the work is done.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


def run_to(
    study: str,
    overrides: list[str] | None,
    stage: str,
    as_json: bool,
    executor: str | None = None,
    export: Path | None = None,
) -> None:
    """Runs a study up to a stage, and copies its adapters to `export` where that is given; ends
    with 3 where completions stayed unscored or adapters could not be trained."""
    from unharm.runs.pipeline import run_study
    from unharm.study.check import load_study

    chosen = [f"executor.name={executor}"] if executor else []
    told_of(run_study(load_study(study, [*(overrides or []), *chosen]), stage), stage, as_json, export)


def told_of(run: Run, stage: str, as_json: bool, export: Path | None = None) -> None:
    """Tells what a run has come to; ends with 3 where it is incomplete."""
    from unharm.runs.adapters import failed_names

    failed, given_up = failed_names(run), run.workers.failures
    result: dict[str, Any] = {
        "run": str(run.store),
        "stage": stage,
        "scored": run.scored,
        "unscored": run.unscored,
        "failed_adapters": failed,
        "failed_tasks": given_up,
        "complete": not run.unscored and not failed and not given_up,
    }
    if stage == "report":
        result["report"] = str(run.store.root / "report.html")
    if export:
        from unharm.runs.tools.export import export_adapters

        result["exported"] = [str(path) for path in export_adapters(run, export)]
        print(f"{len(result['exported'])} adapters exported to {export}", file=sys.stderr)
    if as_json:
        print(json.dumps(result))
    if run.unscored:
        print(
            f"incomplete: {run.unscored:,} completions stayed unscored (exit code 3); "
            f"findings/unscored.csv and the report say why",
            file=sys.stderr,
        )
    if failed:
        print(
            f"incomplete: {len(failed)} adapters could not be trained (exit code 3); "
            "another training.vim.lr or seed makes them anew",
            file=sys.stderr,
        )
    if given_up:
        shown = "".join(f"\n    {name}" for name in given_up[:20])
        print(
            f"incomplete: {len(given_up)} tasks failed twice (exit code 3); details in failed/details/, "
            f"the same command tries them again{shown}",
            file=sys.stderr,
        )
    if not result["complete"]:
        raise typer.Exit(3)
