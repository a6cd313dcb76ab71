"""Tables as files: keys taken out, and in CSV no cell that a spreadsheet would run as a formula.

Every CSV table that we write for ourselves is read with `read_csv`, which takes the guards off again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm.core.files.delimited import guarded, unguarded
from unharm.core.printable import printable
from unharm.core.secrets import MARK, known_values

if TYPE_CHECKING:
    import polars as pl


def csv_bytes(frame: pl.DataFrame) -> bytes:
    """Return a table as CSV, without known keys.

    Control characters are spelled out, and texts that look like formulas get a quote.
    """
    return _mapped(_without_keys(frame), lambda text: guarded(printable(text))).write_csv().encode()


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Return a table as Parquet (zstd), without known keys."""
    buffer = io.BytesIO()
    _without_keys(frame).write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def read_csv(file: Path, schema: dict[str, Any] | None = None) -> pl.DataFrame:
    """Read what `csv_bytes` made, with its texts as they were.

    Args:
        file: The file.
        schema: Its columns; None to take them from the file.

    Raises:
        OSError: It does not exist.
        polars.exceptions.PolarsError: It has other columns.
    """
    import polars as pl

    frame = pl.read_csv(file, schema=schema) if schema else pl.read_csv(file, infer_schema_length=None)
    return _mapped(frame, unguarded)


def _mapped(frame: pl.DataFrame, change: Callable[[str], str]) -> pl.DataFrame:
    """Return a table with every text changed; texts that stay as they are cost one look at each."""
    import polars as pl

    changes: dict[str, Any] = {}
    for name, kind in frame.schema.items():
        if kind == pl.String:
            texts = frame[name].unique().drop_nulls().to_list()
            if any(change(text) != text for text in texts):
                changes[name] = {text: change(text) for text in texts}
    return frame.with_columns(pl.col(name).replace(new) for name, new in changes.items())


def _without_keys(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table without known keys in its texts: a server or a model may have repeated one."""
    import polars as pl

    values = known_values()
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    if not values or not texts:
        return frame
    return frame.with_columns(pl.col(texts).str.replace_many(values, [MARK] * len(values)))
