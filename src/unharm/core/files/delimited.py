"""Delimited text files (CSV, TSV). All wrong rows are reported in one error."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.yaml_text import read_text

MAX_REPORTED = 20
"""Largest number of problems that are listed for one file; the others are counted."""


@dataclass(frozen=True)
class Row:
    """One row: its fields by column name and the line on which it ends."""

    fields: dict[str, str]
    line: int

    def __getitem__(self, column: str) -> str:
        return self.fields[column]


class Reader:
    """The rows of a delimited file, and the problems found while reading them.

    Collect problems with `wrong`, then call `finish`: it raises all of them together.
    """

    def __init__(self, path: Path, content: str, needs: tuple[str, ...], delimiter: str | None = None):
        self.path, self.content = path, content
        self.problems: list[Problem] = []
        text = read_text(path, content)
        if not text.strip():
            raise UserError(f"{content}: the file is empty", str(path))
        header = text.splitlines()[0]
        self.delimiter = delimiter or max(",\t;", key=header.count)
        self._reader = csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter)
        columns = [c.strip() for c in next(self._reader)]
        by_name = {c.lower(): i for i, c in enumerate(columns)}
        missing = [c for c in needs if c.lower() not in by_name]
        if missing:
            raise UserError(self._missing(missing, columns))
        self.columns = {c: by_name[c.lower()] for c in needs}
        self.all_columns = columns

    def _missing(self, missing: list[str], columns: list[str]) -> Problem:
        names = ", ".join(repr(c) for c in missing)
        subject = f"the column {names} is" if len(missing) == 1 else f"the columns {names} are"
        if len(columns) == 1:
            name = {",": "comma", "\t": "tab", ";": "semicolon"}[self.delimiter]
            todo = f"the header has one column when split at {name}s: is the delimiter another one?"
        else:
            present = ", ".join(c or "(unnamed)" for c in columns[:14])
            hint = nearest(missing[0], [c for c in columns if c])
            todo = hint if hint.startswith("did") else f"found: {present}"
        return Problem(f"{self.content}: {subject} missing", f"{self.path}:1", todo)

    def rows(self) -> Iterator[Row]:
        """Yield the rows. Rows with a wrong number of fields are recorded as problems and skipped."""
        try:
            for cells in self._reader:
                line = self._reader.line_num
                if not any(c.strip() for c in cells):
                    continue
                if len(cells) != len(self.all_columns):
                    self.wrong(line, f"{len(cells)} fields where the header has {len(self.all_columns)}")
                    continue
                yield Row({c: cells[i].strip() for c, i in self.columns.items()}, line)
        except csv.Error as error:
            self.wrong(self._reader.line_num, f"not readable: {error}")

    def wrong(self, line: int, message: str, todo: str = "") -> None:
        """Record a problem of a line."""
        self.problems.append(Problem(message, f"{self.path}:{line}", todo))

    def finish(self) -> None:
        """Raise one `UserError` with all recorded problems, if there are any."""
        raise_all(shortened(self.problems, str(self.path)))


def shortened(problems: list[Problem], where: str) -> list[Problem]:
    """Return at most `MAX_REPORTED` of `problems`, and one more that counts the others."""
    others = len(problems) - MAX_REPORTED
    if others <= 0:
        return problems
    return [*problems[:MAX_REPORTED], Problem(f"and {others} more problems of this kind of file", where)]


FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet takes for a formula."""
GUARD = "'"


def guarded(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula, with a quote before it if need be.

    Numbers and single signs stay as they are. A formula that has quotes before it already gets one more, so
    that `unguarded` gives every cell back.
    """
    return GUARD + cell if _is_formula(cell.lstrip(GUARD)) else cell


def unguarded(cell: str) -> str:
    """Return a cell as it was before `guarded`."""
    return cell[1:] if cell.startswith(GUARD) and _is_formula(cell.lstrip(GUARD)) else cell


def _is_formula(cell: str) -> bool:
    if len(cell) < 2 or not cell.startswith(FORMULA):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
