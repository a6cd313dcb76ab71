"""The command `unharm export`: a run in the formats of other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import ForceOption, JsonOption, RunArg
from unharm.core.errors import UserError
from unharm.core.terminal import tell


def export(
    folder: RunArg,
    inspect: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write logs of inspect_ai (.eval) into this folder."),
    ] = None,
    arm: Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; give several.")] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", help="Only this benchmark; give several.")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a finished run in the formats of other tools. The files may contain harmful text."""
    from unharm.runs.reopen import open_run
    from unharm.runs.tools.logs.inspect_export import export_inspect

    if inspect is None:
        raise UserError("nothing to export", "unharm export", "for example --inspect DIR")
    with open_run(folder) as run:
        files = export_inspect(run, inspect, arm or [], benchmark or [], force)
    if as_json:
        tell(json.dumps({"inspect": [str(file) for file in files]}))
    else:
        tell(f"{len(files)} logs in {inspect}: inspect view --log-dir {inspect}")
