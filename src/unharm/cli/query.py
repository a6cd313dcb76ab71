"""The command `unharm query`: SQL over the completions, scores and tables of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unharm.cli.common import ForceOption, JsonOption, RunArg
from unharm.cli.show import one_line
from unharm.core.terminal import tell, warn

if TYPE_CHECKING:
    import polars as pl

WIDEST = 48
"""Characters of a cell in the terminal."""


def query(
    folder: RunArg,
    sql: Annotated[
        str, typer.Argument(metavar="SQL", help="One SELECT statement; left out: list the views.")
    ] = "",
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write all rows and texts to this file.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="The same as Parquet.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Print at most so many rows.")] = 40,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print texts: they may be harmful.")] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Query a run in SQL: views completions and scores, prompts, profiles, and every table of the findings.

    Also while the run goes on. Nothing in the run is changed.
    """
    from unharm.core.files.disk import refuse_existing, write_whole
    from unharm.runs.tools.query import flat, list_views, query_run
    from unharm.store.tables import csv_bytes, parquet_bytes

    if not sql:
        views = list_views(folder)
        if as_json:
            tell(json.dumps({view.name: view.columns for view in views}))
        for view in () if as_json else views:
            tell(f"{view.name}: {', '.join(view.columns)}")
        return
    refuse_existing([csv, parquet], force)
    frame, hidden = query_run(folder, sql, reveal or csv is not None or parquet is not None)
    if csv:
        write_whole(csv, csv_bytes(flat(frame)), "the result", private=True)
    if parquet:
        write_whole(parquet, parquet_bytes(frame), "the result", private=True)
    if csv or parquet:
        files = [str(file) for file in (csv, parquet) if file]
        result: dict[str, Any] = {"rows": frame.height, "files": files}
        tell(json.dumps(result) if as_json else f"{frame.height:,} rows: {', '.join(files)}")
        return
    if as_json:
        tell(json.dumps({"rows": frame.to_dicts(), "hidden": hidden}, default=str, ensure_ascii=False))
        return
    tell(as_text(frame.head(rows)))
    if frame.height > rows:
        warn(f"{frame.height - rows:,} more rows: --rows, --csv or --parquet")
    if hidden:
        warn(f"{hidden:,} texts are hidden: --reveal prints them")


def as_text(frame: pl.DataFrame) -> str:
    """Return a table for the terminal, its columns aligned; numbers to the right."""
    columns = []
    for name, kind in frame.schema.items():
        cells = [one_line(name), *(_cell(value) for value in frame[name].to_list())]
        width = max(map(len, cells))
        right = kind.is_numeric()
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    text = f"{value:.6g}" if isinstance(value, float) else one_line(str(value))
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
