"""The command `unharm init`: a commented study to start from."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import JsonOption
from unharm.core.errors import UserError
from unharm.core.terminal import tell

DATA = (
    "arguments.tsv",
    "grammar.csv",
    "rtp.csv",
    "hbr.jsonl",
    "hexphi",
    "beavertails.csv",
    "questionnaire.csv",
)
"""The toy world's data sets, in the formats of the published ones."""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file to write.")] = Path(
        "study.yaml"
    ),
    base: Annotated[str, typer.Option(help="A hub id, or a folder with a model.")] = "toy",
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Copy small data sets beside it; it runs as it stands."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented study to start from. With --demo it runs at once, on data copied beside it."""
    data = file.parent / "data"
    for path in [file, *([data] if demo else [])]:
        if path.exists():
            raise UserError("this path exists already", str(path), "remove it, or name another file")
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in file.stem).lstrip("._-") or "study"
    template = (resources.files("unharm.study") / "start.yaml").read_text(encoding="utf-8")
    values = {"NAME": name, "BASE": json.dumps(base), "DATA": json.dumps(str(data) if demo else "data")}
    for slot, value in values.items():
        template = template.replace(f"<{slot}>", value)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if demo:
            _copy_data(data)
        file.write_text(template, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write here: {error.strerror or error}", str(file)) from None
    if as_json:
        tell(json.dumps({"study": str(file), "data": str(data) if demo else None}))
        return
    tell(f"{file}: edit it, then")
    tell(f"  unharm plan {file}    # what would run")
    tell(f"  unharm run {file}     # to its report")


def _copy_data(folder: Path) -> None:
    """Copy the toy world's data sets."""
    from unharm.study.demo import data_folder

    source = data_folder()
    folder.mkdir(parents=True)
    for name in DATA:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name)
        else:
            shutil.copyfile(source / name, folder / name)
