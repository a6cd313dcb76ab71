"""Readers for JSON files of benchmarks, plain or gzip. One error lists every wrong row."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.files.delimited import shortened
from unharm.core.files.json_text import NotJson, parse_json
from unharm.core.files.yaml_text import read_text
from unharm.core.records import Prompt

MOST_PACKED, ALWAYS = 100, 64 << 20
"""A file may unpack to this many times its size, and to so many bytes anyway; text packs 3 to 20 times."""

ParseRow = Callable[[dict[str, Any]], Prompt | str]
"""Turns a row into a prompt, or into a description of what is wrong with it."""


def read_lines(path: Path, title: str, parse: ParseRow) -> list[Prompt]:
    """Read the prompts of a file with one JSON object per line.

    Args:
        path: The file, plain or gzip.
        title: Name of the benchmark for messages.
        parse: Turns a row into a prompt or a complaint.

    Raises:
        UserError: The file cannot be read, or lines are wrong (all of them are listed).
    """

    def rows() -> Iterator[tuple[str, Prompt | str]]:
        for number, line in enumerate(load_text(path, title).splitlines(), start=1):
            if line.strip():
                try:
                    yield f"{path}:{number}", _parse_object(parse_json(line), parse)
                except NotJson as error:
                    yield f"{path}:{number}", error.problem

    return _prompts(path, title, rows())


def read_list(path: Path, title: str, parse: ParseRow) -> list[Prompt]:
    """Read the prompts of a file that is one JSON list of objects. See `read_lines`."""
    data = load_json(path, title)
    if not isinstance(data, list):
        raise UserError(f"{title}: expected a list of objects", str(path))
    rows = ((f"{path}, item {n}", _parse_object(row, parse)) for n, row in enumerate(data, start=1))
    return _prompts(path, title, rows)


def _prompts(path: Path, title: str, rows: Iterator[tuple[str, Prompt | str]]) -> list[Prompt]:
    """Return the parsed prompts. Raises `UserError` with every row that could not be parsed."""
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    for where, parsed in rows:
        if isinstance(parsed, str):
            problems.append(Problem(f"{title}: {parsed}", where))
        else:
            prompts.append(parsed)
    raise_all(shortened(problems, str(path)))
    return prompts


def _parse_object(row: Any, parse: ParseRow) -> Prompt | str:
    return parse(row) if isinstance(row, dict) else "expected an object"


def load_json(path: Path, title: str) -> Any:
    """Return the content of a JSON file, plain or gzip. Raises `UserError` if it is not valid JSON."""
    try:
        return parse_json(load_text(path, title))
    except NotJson as error:
        raise UserError(f"{title}: {error.problem}", f"{path}:{error.line}") from None


def missing_fields(row: dict[str, Any], required: tuple[str, ...]) -> str:
    """Describe the required fields that are missing or not text; return "" if there are none."""
    missing = [field for field in required if not isinstance(row.get(field), str)]
    return f"no text in {', '.join(missing)}" if missing else ""


def load_text(path: Path, title: str) -> str:
    """Return the text of a file, unpacked if its name ends in .gz."""
    if path.suffix != ".gz":
        return read_text(path, title)
    try:
        return _unpacked(path, title)
    except FileNotFoundError:
        raise UserError(f"{title}: no such file", str(path)) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{title}: not a complete gzip file of UTF-8 text ({error})", str(path), "download it again"
        ) from None


def _unpacked(path: Path, title: str) -> str:
    """Return the text of a gzip file. Raises `UserError` where it grows beyond all measure."""
    most = max(ALWAYS, MOST_PACKED * path.stat().st_size)
    data = io.BytesIO()
    with gzip.open(path, "rb") as file:
        while block := file.read(1 << 20):
            data.write(block)
            if data.tell() > most:
                raise UserError(
                    f"{title}: the file unpacks to more than {MOST_PACKED} times its size",
                    str(path),
                    "unpack it, look at it, and name the unpacked file",
                )
    return data.getvalue().decode("utf-8")
