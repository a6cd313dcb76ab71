"""The command `unharm export`: a run in the formats of other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

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
    scout: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a transcript database of inspect_scout (Parquet)."),
    ] = None,
    croissant: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write tables and scores with a Croissant description."),
    ] = None,
    arm: Annotated[list[str] | None, typer.Option("--arm", help="Only this arm; give several.")] = None,
    benchmark: Annotated[
        list[str] | None, typer.Option("--benchmark", help="Only this benchmark; give several.")
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a finished run in the formats of other tools. Logs have texts that may be harmful."""
    from unharm.runs.handle import open_handle
    from unharm.runs.reopen import open_run
    from unharm.runs.tools.croissant import write_croissant
    from unharm.runs.tools.logs.inspect_export import export_inspect
    from unharm.runs.tools.logs.scout_export import export_scout

    if inspect is None and scout is None and croissant is None:
        todo = "for example --inspect DIR, --scout DIR or --croissant DIR"
        raise UserError("nothing to export", "unharm export", todo)
    written: dict[str, Any] = {}
    if croissant is not None:
        written["croissant"] = str(write_croissant(open_handle(folder), croissant))
    if inspect is not None:
        with open_run(folder) as run:
            files = export_inspect(run, inspect, arm or [], benchmark or [], force)
        written["inspect"] = [str(file) for file in files]
    if scout is not None:
        with open_run(folder) as run:
            files = export_scout(run, scout, arm or [], benchmark or [], force)
        written["scout"] = [str(file) for file in files]
    if as_json:
        tell(json.dumps(written))
        return
    if "croissant" in written:
        tell(written["croissant"])
    if "inspect" in written:
        tell(f"{len(written['inspect'])} logs in {inspect}: inspect view --log-dir {inspect}")
    if "scout" in written:
        tell(f"{len(written['scout'])} files of transcripts in {scout}: scout view -T {scout}")
