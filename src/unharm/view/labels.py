"""Labels that raters give in the browser, written into their sheets as they come.

A sheet is a file of `unharm labels`: one row per completion, with a column for the label. Findings read the
same files, named in `benchmarks.<name>.human`. Every label is written at once, under a lock, into the sheet
as it is then, so that two viewers on one sheet lose nothing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from unharm.analysis.human_labels import SCALES, off_scale
from unharm.core.errors import UserError
from unharm.core.files.delimited import unguarded
from unharm.core.files.disk import write_whole
from unharm.core.records import Subject
from unharm.runs.tools.label_sheet import COLUMNS
from unharm.runs.views import Views
from unharm.view.numbers import score

STEPS = {"toxicity": ("0", "0.25", "0.5", "0.75", "1")}
"""Labels to choose from, of measures that are no whole numbers."""
NAMES = {
    "negative_regard": {"0": "no negative regard", "1": "negative regard"},
    "flagged": {"0": "harmless", "1": "harmful"},
    "refusal": {"0": "answers", "1": "refuses"},
    "harmfulness": {"1": "harmless", "5": "most harmful"},
    "toxicity": {"0": "not toxic", "1": "very toxic"},
}


@dataclass(frozen=True)
class SheetRow:
    """One completion of a sheet; `value` is empty until it is labelled."""

    identity: str
    prompt: str
    answer: str
    rater: str
    value: str


@dataclass(frozen=True)
class Sheet:
    """A sheet with the benchmark and the measure of its completions."""

    path: Path
    benchmark: str
    measure: str
    rows: list[SheetRow]

    @property
    def labelled(self) -> int:
        return sum(bool(row.value) for row in self.rows)

    @property
    def rater(self) -> str:
        return ", ".join(dict.fromkeys(row.rater for row in self.rows if row.rater))

    def next_open(self, start: int) -> int | None:
        """Return the first row without a label from `start` on, then from the beginning; else None."""
        order = [*range(start, len(self.rows)), *range(start)]
        return next((n for n in order if not self.rows[n].value), None)


def sheet_files(views: Views, given: Sequence[Path]) -> list[Path]:
    """Return the sheets that are given and those that the study names, without those that do not exist."""
    named = [Path(p) for s in views.run.study.benchmarks.chosen().values() for p in s.label_files]
    return list(dict.fromkeys(p.absolute() for p in (*given, *named) if p.is_file()))


def open_sheet(views: Views, path: Path) -> Sheet:
    """Read a sheet.

    Raises:
        UserError: It is no sheet of `unharm labels`, or its completions are not in this run.
    """
    rows = [
        SheetRow(r["completion_id"], unguarded(r["prompt"]), unguarded(r["answer"]), r["rater"], r["value"])
        for r in _read(path)
    ]
    some = [row.identity for row in rows[:20]]
    marks = ", ".join("?" * len(some))
    known = views.rows(f"select distinct benchmark from completions where completion_id in ({marks})", some)
    if len(known) != 1:
        raise UserError("the completions of this sheet are not in this run", str(path))
    benchmark = str(known[0][0])
    return Sheet(path, benchmark, views.run.plan.measure(benchmark), rows)


def save_label(path: Path, measure: str, identity: str, value: str) -> int:
    """Write one label into a sheet; an empty text takes it back.

    Returns:
        How many rows have a label now.

    Raises:
        UserError: The label is out of scale, the sheet has no such completion, or cannot be written.
    """
    number = _number(value)
    if value and (math.isnan(number) or off_scale(number, measure)):
        raise UserError(f"{value!r} is out of scale", "the label", off_scale(number, measure) or "a number")
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=10):
        rows = _read(path)
        chosen = [row for row in rows if row["completion_id"] == identity]
        if not chosen:
            raise UserError("this sheet has no such completion", str(path), "it was changed: load it again")
        for row in chosen:
            row["value"] = value
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, buffer.getvalue().encode(), "the sheet", private=True)
    return sum(bool(row["value"]) for row in rows)


def options(measure: str) -> list[tuple[str, str]]:
    """Return the labels of a measure with their names."""
    low, high, _ = SCALES[measure]
    values = STEPS.get(measure) or tuple(str(n) for n in range(int(low), int(high) + 1))
    return [(value, NAMES.get(measure, {}).get(value, "")) for value in values]


def who_and_scores(views: Views, sheet: Sheet, identity: str) -> tuple[Subject | None, dict[str, str]]:
    """Return the subject of a completion and its scores, for raters who are not blind."""
    rows = views.rows(
        "select arm, profile, strategy, seed from completions where completion_id = ? and benchmark = ?",
        [identity, sheet.benchmark],
    )
    subjects = {(s.arm, s.profile_name, s.strategy, s.seed): s for s in views.run.plan.subjects}
    scores = views.rows(
        "select scorer, value, status from scores where completion_id = ? and benchmark = ?",
        [identity, sheet.benchmark],
    )
    named = {str(n): score(value) if value is not None else str(status) for n, value, status in scores}
    return subjects.get(rows[0]) if rows else None, named


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _read(path: Path) -> list[dict[str, str]]:
    """Read the rows of a sheet as they stand. Raise `UserError` where it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"this sheet cannot be read: {error}", str(path)) from None
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    if (
        not rows
        or not set(COLUMNS) <= set(rows[0])
        or any(None in row or None in row.values() for row in rows)
    ):
        raise UserError(
            "this is no sheet of labels",
            str(path),
            f"expected the columns {', '.join(COLUMNS)}, with commas",
        )
    return rows
