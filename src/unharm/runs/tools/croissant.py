"""A run as a data set that is described in Croissant (JSON-LD of MLCommons): its tables and its scores.

Texts of prompts and completions are left out: benchmarks have licences of their own, and texts may be
harmful.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from unharm.core.errors import UserError
from unharm.core.hashing import slug
from unharm.core.version import __version__
from unharm.runs.handle import RunHandle
from unharm.store.tables import csv_bytes

INSTALL = "pip install 'unharm[croissant]'"
DESCRIPTION, SCORES, TABLES = "croissant.json", "scores.parquet", "tables"
LEFT_OUT = ("raw", "reason")
"""Columns of scores that may repeat what a model or a service wrote."""
CSV, PARQUET = "text/csv", "application/x-parquet"


def write_croissant(run: RunHandle, folder: Path) -> Path:
    """Write the data set of a finished run and check its description with mlcroissant.

    Args:
        run: The run.
        folder: A folder that does not exist yet.

    Returns:
        The description.

    Raises:
        UserError: mlcroissant is missing, the folder exists, or the run has no findings.
    """
    try:
        package: Any = import_module("mlcroissant")
    except ImportError:
        raise UserError(
            "a Croissant description needs the package mlcroissant", str(folder), INSTALL
        ) from None
    if folder.exists():
        raise UserError("this folder exists already", str(folder), "remove it or choose another")
    frames = {name: run.table(name) for name in run.tables}
    frames = {name: frame for name, frame in frames.items() if frame.height}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as home:
            made = Path(home) / "data"
            (made / TABLES).mkdir(parents=True)
            for name, frame in frames.items():
                (made / TABLES / f"{name}.csv").write_bytes(csv_bytes(frame))
            scores = run.scores().drop(LEFT_OUT)
            scores.sink_parquet(made / SCORES)
            metadata = _metadata(package, run, made, frames, scores.collect_schema())
            text = json.dumps(metadata.to_json(), indent=2, default=str)
            (made / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
            logging.getLogger("absl").setLevel(
                logging.ERROR
            )  # it recommends a licence, which is the user's
            package.Dataset(jsonld=str(made / DESCRIPTION))  # raises where the description is not valid
            shutil.move(made, folder)
    except OSError as error:
        raise UserError(f"cannot write here: {error.strerror or error}", str(folder)) from None
    return folder / DESCRIPTION


def _metadata(
    package: Any, run: RunHandle, folder: Path, frames: dict[str, pl.DataFrame], scores: pl.Schema
) -> Any:
    """Return the description: a file and a set of records for every table, and for the scores."""
    files = {name: (f"{TABLES}/{name}.csv", CSV) for name in frames} | {"scores-all": (SCORES, PARQUET)}
    schemas = {name: frame.schema for name, frame in frames.items()} | {"scores-all": scores}
    distribution, records = [], []
    for name, (path, kind) in files.items():
        digest = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        identity = f"{name}-file"
        distribution.append(
            package.FileObject(
                id=identity, name=identity, content_url=path, encoding_formats=[kind], sha256=digest
            )
        )
        fields = [
            package.Field(
                id=f"{name}/{column}",
                name=f"{name}/{column}",
                data_types=[_data_type(package, column_type)],
                source=package.Source(file_object=identity, extract=package.Extract(column=column)),
            )
            for column, column_type in schemas[name].items()
        ]
        records.append(package.RecordSet(id=name, name=name, fields=fields))
    return package.Metadata(
        name=slug(run.study.name),
        description=(
            f"The findings of the study {run.study.name!r}, and the score of every completion without its "
            "text. Made with unharm to measure side effects of aligning language models."
        ),
        version=f"{__version__.split('+')[0]}",
        date_published=datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0),
        distribution=distribution,
        record_sets=records,
    )


def _data_type(package: Any, kind: pl.DataType) -> str:
    if kind == pl.Boolean:
        return str(package.DataType.BOOL)
    if kind.is_integer():
        return str(package.DataType.INTEGER)
    return str(package.DataType.FLOAT if kind.is_float() else package.DataType.TEXT)
