"""The command `unharm figure`: figures of a run for papers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import ForceOption, JsonOption, RunArg
from unharm.core.terminal import tell


def figure(
    folder: RunArg,
    name: Annotated[str, typer.Argument(metavar="NAME", help="scatter, heatmap, radar or forest.")],
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out", metavar="FILE", help="A .pdf, .svg or .png; give several. Default: NAME.pdf."
        ),
    ] = None,
    arm: Annotated[str, typer.Option(help="Only this arm.")] = "",
    profile: Annotated[str, typer.Option(help="The profile of the radar; by default the first.")] = "",
    strategy: Annotated[str, typer.Option(help="By default the first.")] = "",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw a figure of a run for a paper.

    scatter: harm against alignment. heatmap: values × harms, clustered. radar: a profile and its ratings.
    forest: differences from vanilla.
    """
    from unharm.core.files.disk import refuse_existing
    from unharm.runs.tools.figures import FigureOptions, write_figure

    files = out or [Path(f"{name}.pdf")]
    refuse_existing(files, force)
    write_figure(folder, name, files, FigureOptions(arm, profile, strategy))
    tell(json.dumps({"figures": [str(f) for f in files]}) if as_json else "\n".join(map(str, files)))
