"""What every command shares: the study argument, `--set`, `--json`, and running up to a stage."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

StudyArg = Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or 'quickstart'.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the study.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


def run_to(study: str, overrides: list[str] | None, stage: str, as_json: bool) -> None:
    """Runs a study up to a stage; ends with 3 where completions stayed unscored."""
    from unharm.pipeline import run_study
    from unharm.study_check import load_study

    run = run_study(load_study(study, overrides), stage)
    result: dict[str, Any] = {
        "run": str(run.store.root),
        "stage": stage,
        "scored": run.scored,
        "unscored": run.unscored,
        "complete": run.unscored == 0,
    }
    if stage == "report":
        result["report"] = str(run.store.root / "report.html")
    if as_json:
        print(json.dumps(result))
    if run.unscored:
        print(
            f"incomplete: {run.unscored:,} completions stayed unscored (exit code 3); "
            f"findings/unscored.csv and the report say why",
            file=sys.stderr,
        )
        raise typer.Exit(3)
