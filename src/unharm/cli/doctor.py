"""`unharm doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import JsonOption
from unharm.core.terminal import tell, warn


def doctor(
    base: Annotated[
        str, typer.Argument(metavar="[BASE]", help="A base as in a study: a folder, a hub id, 'toy'.")
    ] = "toy",
    out: Annotated[Path, typer.Option("--out", help="Where to write the figures.")] = Path("doctor.json"),
    device: Annotated[
        str, typer.Option("--device", help="As engine.device: auto, cpu, cuda, cuda:1.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say whether this machine can run a study with a base, and how fast.

    Loads the base, trains and completes for some minutes, and writes what it measured to a file that
    `unharm plan STUDY --hardware doctor.json` reads. Exit code 1 if something does not work.
    """
    import re

    from unharm.core.errors import UserError
    from unharm.engines.settings import DEVICES
    from unharm.runs.doctor.examination import examine

    if not re.fullmatch(DEVICES, device):
        raise UserError(f"unknown device {device!r}", "--device", "expected auto, cpu, cuda or cuda:1")
    if not out.parent.is_dir():
        raise UserError("no such folder", f"--out {out.parent}", "make it first")
    record = examine(base, device, out, warn if as_json else tell)
    if as_json:
        tell(json.dumps(record))
    else:
        tell(f"\n{record['level']}; figures for `unharm plan STUDY --hardware {out}` are in {out}")
    if record["level"] == "fault":
        raise typer.Exit(1)
