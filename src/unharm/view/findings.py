"""The tables of the findings, with the completions behind every number one click away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from unharm.analysis.measures import INCOHERENT
from unharm.analysis.metrics import ALL
from unharm.analysis.schemas import SCHEMAS
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError, nearest
from unharm.report.words import category_name, metric_name
from unharm.runs.views import Views
from unharm.view.filters import Filter
from unharm.view.numbers import score

ROWS = 100
"""Number of rows on a page."""
TITLES = {
    "subjects": "every subject and metric", "arms": "arms and metrics",
    "alignment": "alignment of profiles",
    "comparisons": "differences between arms", "variance": "what scores vary with",
    "associations": "values and harms", "regressions": "values and harms together",
    "hypotheses": "stated hypotheses", "moved": "shifts of values", "expression": "expressed values",
    "bias": "groups of people", "unscored": "completions without a score", "scorers": "outcome of scorers",
    "agreement": "agreement of scorers", "worst_case": "bounds for what has no score",
    "corrected": "rates corrected by labels", "corrected_differences": "differences corrected by labels",
    "scorer_errors": "errors of scorers",
    "dose": "doses of alignment", "guards": "guards in training",
    "behaviour": "choices against ratings", "behaviour_arms": "choices against ratings, by arm",
    "leakage": "rise of other values", "costs": "costs of the arms",
    "mechanism": "value vectors inside the model", "mechanism_harms": "value vectors and harms",
}  # fmt: skip
FIXED = {"alignment": "questionnaire", "moved": "questionnaire", "bias": "hbr"}
"""The benchmark of tables without a column for it."""
WITHOUT_SCORE = ("unscored", "refused", "filtered", "unanswered", "without_score", "completions")
ALWAYS = ("arm", "reference", "profile", "benchmark", "metric", "verdict")
INTERVAL = "interval"
LEFT_OUT = ("scorer_version", "stand_in", "unit")
"""Columns that say nothing of a number; they are in the CSV."""


@dataclass(frozen=True)
class Cell:
    """A cell as text; `link` leads to the completions behind it, empty for a name."""

    text: str
    link: str = ""
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A page of a table; `total` counts all its rows."""

    name: str
    columns: list[tuple[str, bool]]
    rows: list[list[Cell]]
    total: int
    page: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // ROWS))

    def query(self, chosen: Filter, page: int) -> str:
        """Return the query of the address of another page."""
        return f"{urlencode({'name': self.name})}&{chosen.query(page=page)}".rstrip("&")


def title_of(name: str) -> str:
    """Return what a table is called; its own name in words where no other is given."""
    return TITLES.get(name, name.replace("_", " "))


def table_names(views: Views) -> list[str]:
    """Return the tables that are made, in their order."""
    made = set(views.names)
    return [name for name in SCHEMAS if name in made]


def read_table(views: Views, name: str, chosen: Filter) -> Table:
    """Return a page of a table with links.

    Args:
        views: The views of the run.
        name: The table.
        chosen: Which rows: those of its arms, benchmark, category, profile and strategy.

    Raises:
        UserError: There is no such table, or it is not made yet.
    """
    names = table_names(views)
    if name not in names:
        todo = nearest(name, names) if names else "make them: unharm analyze STUDY"
        wrong = "this table is not made yet" if name in SCHEMAS else f"no table {name!r}"
        raise UserError(wrong, "name", todo)
    columns = list(SCHEMAS[name])
    where: list[str] = ["true"]
    values: list[Any] = []
    for column in ("benchmark", "category", "profile", "strategy"):
        if column in columns and getattr(chosen, column):
            where.append(f"{column} = ?")
            values.append(getattr(chosen, column))
    if chosen.arm and "arm" in columns:
        where.append(f"arm in ({', '.join('?' * len(chosen.arm))})")
        values += chosen.arm
    condition = " and ".join(where)
    total = views.rows(f'select count(*) from "{name}" where {condition}', values)[0][0]
    rows = views.rows(
        f'select * from "{name}" where {condition} limit {ROWS} offset {ROWS * (chosen.page - 1)}', values
    )
    known = _known_names(views)
    dicts = [dict(zip(columns, row, strict=True)) for row in rows]
    shown = _shown_columns(dicts, columns)
    cells = [[_cell(name, row, column, chosen.run, known) for column in shown] for row in dicts]
    kinds = SCHEMAS[name]
    numeric = [(c, c == INTERVAL or str(kinds[c]) in ("Int64", "Float64")) for c in shown]
    return Table(name, numeric, cells, int(total), chosen.page)


def _shown_columns(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    """Return the columns that say something: not empty, and names only where they differ or are asked for.

    `low` and `high` become one column, `INTERVAL`.
    """
    shown = []
    for column in columns:
        values = {row[column] for row in rows} - {None, ""}
        names = all(isinstance(value, str | bool) for value in values)
        alike = names and len(values) == 1 and len(rows) > 1 and column not in ALWAYS
        if column == "low" and values:
            shown.append(INTERVAL)
        elif values and not alike and column not in ("low", "high", *LEFT_OUT):
            shown.append(column)
    return shown


def _known_names(views: Views) -> dict[str, set[str]]:
    """Return the benchmarks and categories of the run."""
    pairs = views.rows("select distinct benchmark, category from prompts")
    return {"benchmark": {b for b, _ in pairs}, "category": {c for _, c in pairs}}


def _cell(table: str, row: Mapping[str, Any], column: str, run: int, known: Mapping[str, set[str]]) -> Cell:
    if column == INTERVAL:
        ends = [score(row[end]).replace("-", "−") for end in ("low", "high")]
        return Cell(" to ".join(ends) if row["low"] is not None else "–", is_number=True)
    value = row[column]
    if value is None:
        return Cell("–")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(_name(column, value))
    chosen = behind(table, row, column, known)
    text = f"{value:,}" if isinstance(value, int) else score(value).replace("-", "−")
    link = "" if chosen is None or column == "seed" else f"/prompts?{chosen.query(run=run)}"
    return Cell(text, link, True)


def _name(column: str, value: Any) -> str:
    """Return a name as readers know it, with places to break the line."""
    text = str(value)
    if column == "benchmark" and text in BENCHMARKS:
        return BENCHMARKS[text].title
    if column == "metric" and text:
        return metric_name(text)
    return category_name(text) if column == "category" else text


def behind(table: str, row: Mapping[str, Any], column: str, known: Mapping[str, set[str]]) -> Filter | None:
    """Return the filter of the completions behind a number; None where it stands for none.

    Args:
        table: The name of the table.
        row: The row of the number.
        column: Its column.
        known: The benchmarks and categories that the run has.
    """
    benchmark = str(row.get("benchmark") or FIXED.get(table, ""))
    if benchmark not in known["benchmark"]:
        return None
    category = str(row.get("category") or row.get("axis") or "")
    arms, strategy = _sides(row, column)
    metric = str(row.get("metric") or "")
    is_estimate = column not in ("n", "units", "prompts", "profiles", "targets", "seeds")
    without = column in WITHOUT_SCORE and (column != "completions" or table == "unscored")
    return Filter(
        benchmark=benchmark,
        category=category if category in known["category"] and category != ALL else "",
        arm=arms,
        profile=str(row.get("profile") or ""),
        strategy=strategy,
        seed=row.get("seed"),
        unscored=without,
        incoherent=metric == INCOHERENT and is_estimate and not without,
        disagree=table == "agreement" and is_estimate and not without,
        sort="highest" if is_estimate and not without else "",
    )


def _sides(row: Mapping[str, Any], column: str) -> tuple[tuple[str, ...], str]:
    """Return the arms and the strategy that a number is of: a difference is of both sides."""
    arm, reference = str(row.get("arm") or ""), str(row.get("reference") or "")
    strategy, other = str(row.get("strategy") or ""), str(row.get("reference_strategy") or "")
    if not reference or not other or column == "value_arm":
        return tuple(filter(None, (arm,))), strategy
    if column == "value_reference":
        return (reference,), other
    return tuple(dict.fromkeys((arm, reference))), strategy if strategy == other else ""
