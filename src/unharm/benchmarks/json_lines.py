"""JSON files of benchmarks, plain or gzip, with one message that names every wrong row."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.files.delimited import shortened
from unharm.core.files.yaml_text import read_text
from unharm.core.records import Prompt

Take = Callable[[dict[str, Any]], Prompt | str]
"""From a row to its prompt, or to what is wrong with it."""


def read_lines(path: Path, what: str, take: Take) -> list[Prompt]:
    """The prompts of a file with one JSON object per line. Raises `UserError` with every wrong line."""

    def rows() -> Iterator[tuple[str, Prompt | str]]:
        for number, line in enumerate(text_of(path, what).splitlines(), start=1):
            if line.strip():
                try:
                    yield f"{path}:{number}", _taken(json.loads(line), take)
                except json.JSONDecodeError as error:
                    yield f"{path}:{number}", f"not JSON ({error.msg})"

    return _prompts(path, what, rows())


def read_list(path: Path, what: str, take: Take) -> list[Prompt]:
    """The prompts of a file that is one JSON list of objects. Raises `UserError` as `read_lines`."""
    data = json_of(path, what)
    if not isinstance(data, list):
        raise UserError(f"{what}: expected a list of objects", str(path))
    rows = ((f"{path}, item {n}", _taken(row, take)) for n, row in enumerate(data, start=1))
    return _prompts(path, what, rows)


def _prompts(path: Path, what: str, rows: Iterator[tuple[str, Prompt | str]]) -> list[Prompt]:
    """The prompts among what was taken from each place; raises with all that went wrong."""
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    for where, taken in rows:
        if isinstance(taken, str):
            problems.append(Problem(f"{what}: {taken}", where))
        else:
            prompts.append(taken)
    raise_all(shortened(problems, str(path)))
    return prompts


def _taken(row: Any, take: Take) -> Prompt | str:
    return take(row) if isinstance(row, dict) else "expected an object"


def json_of(path: Path, what: str) -> Any:
    """The content of a JSON file. Raises `UserError` where it is none."""
    try:
        return json.loads(text_of(path, what))
    except json.JSONDecodeError as error:
        raise UserError(f"{what}: not JSON ({error.msg})", f"{path}:{error.lineno}") from None


def without(row: dict[str, Any], needs: tuple[str, ...]) -> str:
    """What a row lacks: fields that are no text; empty where it has all."""
    missing = [n for n in needs if not isinstance(row.get(n), str)]
    return f"no text in {', '.join(missing)}" if missing else ""


def text_of(path: Path, what: str) -> str:
    """The text of a file, unpacked where its name ends with .gz."""
    if path.suffix != ".gz":
        return read_text(path, what)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise UserError(f"{what}: no such file", str(path)) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{what}: not a whole gzip file of UTF-8 text ({error})", str(path), "fetch it again"
        ) from None
