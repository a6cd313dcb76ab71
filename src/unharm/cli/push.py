"""The command `unharm push`: adapters with cards and the tables of a run, to the model hub or a folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import JsonOption, RunArg
from unharm.core.errors import UserError
from unharm.core.terminal import tell


def push(
    folder: RunArg,
    repo: Annotated[
        str, typer.Option("--repo", metavar="OWNER/NAME", help="The repository of the hub.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the folder here, and upload nothing.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Everybody sees that it exists.")] = False,
    ungated: Annotated[bool, typer.Option("--ungated", help="Everybody may download it.")] = False,
    update: Annotated[bool, typer.Option("--update", help="The repository may exist already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload the adapters of a finished run with cards, and its tables.

    The repository is private and gated unless you say otherwise. Completions are not uploaded.
    The token is read from HF_TOKEN.
    """
    from unharm.runs.reopen import open_run
    from unharm.runs.tools.push import check_target, push_folder
    from unharm.runs.tools.share_folder import write_share_folder

    if bool(repo) == (out is not None):
        raise UserError(
            "give either --repo or --out", "unharm push", "--out DIR shows what would be uploaded"
        )
    if out is not None:
        if out.exists():
            raise UserError("this folder exists already", str(out), "remove it or choose another --out")
        with open_run(folder) as run:
            adapters = write_share_folder(run, out)
        tell(json.dumps({"folder": str(out), "adapters": len(adapters)}) if as_json else str(out))
        return
    check_target(repo, public, not ungated)
    with tempfile.TemporaryDirectory() as home, open_run(folder) as run:
        adapters = write_share_folder(run, Path(home) / "share")
        url = push_folder(Path(home) / "share", repo, public, not ungated, update)
    tell(
        json.dumps({"url": url, "adapters": len(adapters)})
        if as_json
        else f"{len(adapters)} adapters: {url}"
    )
