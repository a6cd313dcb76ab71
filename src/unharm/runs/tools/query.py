"""SQL over a run for the terminal: results in which texts of prompts and models are hidden."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from unharm.core.records import STATUSES
from unharm.runs.views import Views, open_views

TEXTS = frozenset(("text", "raw", "reason"))
"""Columns of the views with what prompts, models and services wrote."""
FILES = ("completions", "scores")
"""The views over the files of a run; all others are small tables."""
LABELS, LONGEST_LABEL = 1000, 60
"""Labels of scorers that are shown: so many different ones, of so many characters."""
WORDS = frozenset((*STATUSES, "completed", "failed", "stop", "length", "error", "eos"))
HASH = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class ViewColumns:
    """A view or table with its columns as `name type`."""

    name: str
    columns: list[str]


def query_run(folder: Path, sql: str, reveal: bool) -> tuple[pl.DataFrame, int]:
    """Run one SELECT statement over the views of a run.

    Args:
        folder: The run folder.
        sql: The statement.
        reveal: Whether texts stay as they are.

    Returns:
        The result, and the number of texts in it that are hidden.

    Raises:
        UserError: DuckDB is missing, the folder is no run, or the statement is wrong.
    """
    with open_views(folder) as views:
        frame = views.query(sql)
        return (frame, 0) if reveal else hidden(frame, known_names(views), sql)


def list_views(folder: Path) -> list[ViewColumns]:
    """Return the views and tables of a run. Raise `UserError` as `query_run` does."""
    with open_views(folder) as views:
        return [ViewColumns(name, _columns(views, name)) for name in views.names]


def _columns(views: Views, name: str) -> list[str]:
    sql = "select column_name, data_type from information_schema.columns where table_name = ?"
    rows = views.rows(f"{sql} order by ordinal_position", [name])
    return [f"{column} {kind.lower()}" for column, kind in rows]


def known_names(views: Views) -> set[str]:
    """Return every name of the run: arms, profiles, prompts, categories, metrics, labels and so on."""
    names = set(WORDS)
    for view in views.names:
        if view in FILES:
            continue
        for column in _columns(views, view):
            name, _, kind = column.partition(" ")
            if kind == "varchar" and name not in TEXTS:
                names |= {str(value) for (value,) in views.rows(f'select distinct "{name}" from "{view}"')}
    labels = f"select distinct label from scores where length(label) <= {LONGEST_LABEL} limit {LABELS}"
    return names | {str(label) for (label,) in views.rows(labels)}


def hidden(frame: pl.DataFrame, names: set[str], sql: str) -> tuple[pl.DataFrame, int]:
    """Hide every text that is no name of the run, no hash and not in the statement itself.

    A statement can rename, join and cut texts, so what is shown goes by the value and not by its column.

    Returns:
        The table, and how many texts are hidden.
    """
    count = 0

    def shown(value: Any) -> Any:
        nonlocal count
        if isinstance(value, list):
            return [shown(part) for part in value]
        if isinstance(value, dict):
            return {key: shown(part) for key, part in value.items()}
        if not isinstance(value, str) or not value or value in names or HASH.fullmatch(value):
            return value
        if f"'{value}'" in sql:
            return value
        count += 1
        return f"[{len(value)} characters]"

    changed = {}
    for name, kind in frame.schema.items():
        if kind == pl.String or kind.is_nested():
            changed[name] = [shown(value) for value in frame[name].to_list()]
    columns = [pl.Series(name, values, dtype=frame.schema[name]) for name, values in changed.items()]
    return frame.with_columns(columns), count


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table with lists and structures as JSON, as CSV needs them."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    columns = [
        pl.Series(
            name, [None if v is None else json.dumps(v) for v in frame[name].to_list()], dtype=pl.String
        )
        for name in nested
    ]
    return frame.with_columns(columns)
