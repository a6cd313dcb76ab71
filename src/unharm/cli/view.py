"""The command `unharm view`: a local page over the completions, scores and findings of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import JsonOption, RunArg
from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.terminal import tell


def view(
    folder: RunArg,
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN2]", help="A second run, to see both side by side.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port; by default 8377 or the next free one.")
    ] = None,
    at: Annotated[
        str, typer.Option("--at", metavar="PATH", help="The page to open, such as '/prompts?arm=vim'.")
    ] = "/",
    sheet: Annotated[
        list[Path] | None,
        typer.Option("--sheet", help="A sheet of 'unharm labels' to fill in here; give it again for more."),
    ] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at a run in the browser: prompts across arms, findings, profiles, labels, training.

    The page is on this machine only, and asks nothing of any other. It ends with Ctrl-C.
    """
    import webbrowser

    from unharm.runs.views import check_duckdb
    from unharm.view.server import open_server
    from unharm.view.site import open_site

    check_duckdb("unharm view")
    if not at.startswith("/"):
        raise UserError(f"{at!r} is no page", "--at", "it begins with /, such as /prompts?arm=vim")
    missing = [Problem("there is no such sheet", str(path)) for path in sheet or () if not path.is_file()]
    raise_all(missing)
    site = open_site([folder, other] if other else [folder], sheets=sheet or ())
    with open_server(site.get, site.post, port) as server:
        address = server.address(at)
        tell(json.dumps({"address": address, "port": server.port}) if as_json else address)
        if browser:
            webbrowser.open(address)
        try:
            server.serve_forever()
        finally:
            site.close()
