"""Turns survey respondents into profiles: from human-values items to ten importances from 1 to 6.

If the survey counts down (ESS: 1 "very much like me" … 6 "not like me at all"), an answer a becomes 7 − a.
The importance of a value is the mean of its items. Respondents with a missing item are dropped (listwise).
Of respondents with identical importances only the first is kept.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.yaml_text import SpecText, read_text
from unharm.core.values import HIGHEST, LOWEST, VALUES

WIDEST = 1000
"""The most steps of a scale of answers."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Items:
    """The map from items to values, and the coding of the answers.

    Attributes:
        values: The items of each value.
        lowest: The lowest answer code.
        highest: The highest answer code.
        reversed: Whether the lowest code means the highest agreement.
        missing: Codes that count as a missing answer.
    """

    values: Mapping[str, tuple[str, ...]]
    lowest: int
    highest: int
    reversed: bool
    missing: tuple[int, ...]

    @property
    def columns(self) -> list[str]:
        """All items, in the order of `VALUES`."""
        return [item for value in VALUES for item in self.values[value]]


@dataclass(frozen=True)
class Respondents:
    """The usable respondents of a survey.

    Attributes:
        importances: [n, 10], from 1 to 6.
        rows: [n], the row of each respondent in the file, from 0.
        read: Number of respondents in the file.
        complete: Number of respondents without a missing item.
        groups: The group of each respondent; None if no group column was requested.
    """

    importances: Matrix
    rows: npt.NDArray[np.int64]
    read: int
    complete: int
    groups: list[str] | None = None


def load_items(name: str = "ess") -> Items:
    """Return the item map that ships with unharm (`ess`), or load one from a file.

    Raises:
        UserError: The file is malformed; lists all problems.
    """
    if name == "ess":
        path = Path(str(resources.files("unharm"))) / "profiles" / "ess.yaml"
    else:
        path = Path(name).expanduser()
    text = SpecText(read_text(path, "item map"), str(path))
    problems = list(text.problems)
    by_value: dict[str, tuple[str, ...]] = {}
    given: Any = text.data.get("values")
    for value in VALUES:
        items = given.get(value) if isinstance(given, dict) else None
        if not isinstance(items, list) or not items or not all(isinstance(i, str) for i in items):
            problems.append(Problem("expected a list of item names", text.where(("values", value))))
        else:
            by_value[value] = tuple(items)
    for value in given if isinstance(given, dict) else ():
        if value not in VALUES:
            problems.append(
                Problem(
                    f"unknown value {value!r}", text.where(("values", value)), nearest(str(value), VALUES)
                )
            )
    named = [i for items in by_value.values() for i in items]
    for item in sorted({i for i in named if named.count(i) > 1}):
        problems.append(Problem(f"the item {item!r} is listed under two values", text.where(("values",))))
    for field in ("lowest", "highest"):
        if type(text.data.get(field)) is not int:
            problems.append(Problem("expected a whole number", text.where((field,))))
    low, high = text.data.get("lowest"), text.data.get("highest")
    if type(low) is int and type(high) is int and not 0 < high - low <= WIDEST:
        message = f"'highest' must be above 'lowest', by at most {WIDEST}"
        problems.append(Problem(message, text.where(("highest",))))
    missing = text.data.get("missing", [])
    if not isinstance(missing, list) or not all(isinstance(m, int) for m in missing):
        problems.append(Problem("expected a list of codes", text.where(("missing",))))
    if not isinstance(text.data.get("reversed"), bool):
        problems.append(Problem("expected true or false", text.where(("reversed",))))
    raise_all(problems)
    data = text.data
    return Items(by_value, data["lowest"], data["highest"], data["reversed"], tuple(missing))


def read_survey(
    path: Path,
    items: Items,
    *,
    as_published: bool = False,
    ipsatise: bool = False,
    group: str | None = None,
) -> Respondents:
    """Read the complete respondents of a survey file.

    Args:
        path: The file, separated by commas, tabs or semicolons.
        items: The item map.
        as_published: Do not reverse the answers (defect 1 of the published implementation).
        ipsatise: Centre each respondent on the middle of the scale: 3.5 + score − the respondent's mean,
            clipped to [1, 6].
        group: A column with the group of each respondent. If given, respondents with identical
            importances are all kept, because means need every respondent.

    Raises:
        UserError: Columns are missing, or answers have unknown codes.
    """
    frame = _answers(path, items, group)
    answers = frame.select(items.columns).to_numpy().astype(float)
    answers[np.isin(answers, items.missing)] = np.nan
    _check_codes(path, items, answers)
    complete = ~np.isnan(answers).any(axis=1)
    rows = np.flatnonzero(complete)
    answers = answers[complete]
    if items.reversed and not as_published:
        answers = items.lowest + items.highest - answers
    scale = (HIGHEST - LOWEST) / (items.highest - items.lowest)
    answers = LOWEST + (answers - items.lowest) * scale
    importances = _means(answers, items)
    if ipsatise:
        middle = (LOWEST + HIGHEST) / 2
        centred = middle + importances - importances.mean(axis=1, keepdims=True)
        importances = np.clip(centred, LOWEST, HIGHEST)
    if group is not None:
        names = [str(x) for x in frame[group].gather(rows).to_list()]
        return Respondents(importances, rows, frame.height, len(rows), names)
    distinct = _distinct_rows(importances)
    return Respondents(importances[distinct], rows[distinct], frame.height, len(rows))


def group_means(respondents: Respondents) -> dict[str, tuple[Matrix, int]]:
    """Return mean importances [10] and number of respondents of each group, in alphabetical order."""
    groups = np.array(respondents.groups if respondents.groups is not None else [], dtype=object)
    means = {}
    for name in sorted(set(groups.tolist())):
        members = respondents.importances[groups == name]
        means[str(name)] = (members.mean(axis=0), len(members))
    return means


def _means(answers: Matrix, items: Items) -> Matrix:
    columns, start = [], 0
    for value in VALUES:
        count = len(items.values[value])
        columns.append(answers[:, start : start + count].mean(axis=1))
        start += count
    return np.column_stack(columns)


def _distinct_rows(vectors: Matrix) -> npt.NDArray[np.int64]:
    """Return the indices of the first occurrence of each distinct row, in ascending order."""
    as_bytes = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.shape[1] * 8))).ravel()
    _, first = np.unique(as_bytes, return_index=True)
    return np.sort(first)


def _answers(path: Path, items: Items, group: str | None) -> pl.DataFrame:
    text = read_text(path, "survey")
    if not text.strip():
        raise UserError("survey: the file is empty", str(path))
    header = text.splitlines()[0]
    delimiter = max(",\t;", key=header.count)
    columns = [c.strip().strip('"') for c in header.split(delimiter)]
    needed = items.columns + ([group] if group else [])
    missing = [c for c in needed if c not in columns]
    if missing:
        raise UserError(
            f"survey: {len(missing)} of {len(needed)} columns are missing: {', '.join(missing[:6])}",
            f"{path}:1",
            "a single column means another delimiter; for other item names give an item map (`items`)",
        )
    numeric = dict.fromkeys(items.columns, pl.Float64)
    try:
        return pl.read_csv(
            io.StringIO(text), separator=delimiter, columns=needed, schema_overrides=numeric,
            null_values=["", "NA", "."], infer_schema_length=0,
        )  # fmt: skip
    except pl.exceptions.PolarsError as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"survey: answers are not numbers ({first})", str(path), "items must be numeric answer codes"
        ) from None


def _check_codes(path: Path, items: Items, answers: Matrix) -> None:
    known = np.isnan(answers) | np.isin(answers, np.arange(items.lowest, items.highest + 1))
    if known.all():
        return
    problems = []
    for place, column in enumerate(items.columns):
        wrong = answers[~known[:, place], place]
        if len(wrong):
            codes = ", ".join(f"{c:g}" for c in np.unique(wrong)[:6])
            problems.append(
                Problem(f"survey: {len(wrong)} answers of {column} have the codes {codes}", str(path))
            )
    problems.append(
        Problem(
            f"expected {items.lowest} to {items.highest}, or the missing codes "
            f"{', '.join(map(str, items.missing))}",
            str(path),
            "list further missing codes under `missing` in a copy of the item map, and name it in `items`",
        )
    )
    raise UserError(problems)
