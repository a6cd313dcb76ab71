"""The part of `unharm compare` for logs of other tools: options in, a table, a page or JSON out."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from unharm.core.errors import Problem, nearest, raise_all
from unharm.core.terminal import tell, warn

if TYPE_CHECKING:
    from unharm.analysis.log_comparison import LogComparison, LogSettings


@dataclass(frozen=True)
class LogOptions:
    """The options as they were typed."""

    max_increase: list[str]
    max_decrease: list[str]
    confidence: float
    category: str
    ranges: list[str]
    reduce: str


def compare_log_files(
    before: list[Path],
    after: list[Path],
    options: LogOptions,
    markdown: Path | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Compare the logs of two sides.

    Args:
        before: Files and folders of side A.
        after: Files and folders of side B.
        options: How they are compared.
        markdown: Also write the table to this file.
        page: Also write a page to this file.
        as_json: Print one line of JSON instead of the table.

    Raises:
        UserError: An option is wrong, or the logs cannot be read or compared.
        typer.Exit: With code 3 if a metric changed by more than is allowed.
    """
    from unharm.analysis.gate import RISEN
    from unharm.analysis.log_comparison import FALLEN, compare_logs
    from unharm.core.files.disk import write_whole
    from unharm.runs.tools.logs.reading import read_side

    settings = _settings(options)
    first, second = (read_side(paths, options.category, options.reduce) for paths in (before, after))
    comparison = compare_logs(first, second, settings)
    text = table(comparison, settings)
    if markdown:
        write_whole(markdown, (text + "\n").encode(), "the table")
    if page:
        from unharm.report.log_page import render_logs

        write_whole(page, render_logs(comparison, first, second, settings).encode(), "the page")
    broken = [r for r in comparison.rows if r["gate"] in (RISEN, FALLEN)]
    if as_json:
        tell(json.dumps({"broken": len(broken), "rows": comparison.rows, "notes": comparison.notes}))
    else:
        tell(text)
        if page:
            warn(f"page: {page}")
    if broken:
        raise typer.Exit(3)


def _settings(options: LogOptions) -> LogSettings:
    from unharm.analysis.log_comparison import LogSettings
    from unharm.runs.tools.logs.inspect_log import REDUCERS

    problems: list[Problem] = []
    limits = []
    for option, words in (
        ("--max-increase", options.max_increase),
        ("--max-decrease", options.max_decrease),
    ):
        allowed, wrong = shares(option, words)
        limits.append(allowed)
        problems += wrong
    ranges: dict[str, tuple[float, float]] = {}
    for word in options.ranges:
        metric, _, bounds = word.rpartition("=")
        try:
            low, high = (float(bound) for bound in bounds.split(":"))
            valid = math.isfinite(low) and math.isfinite(high) and low < high
        except ValueError:
            valid = False
        if valid:
            ranges[metric] = low, high
        else:
            problems.append(
                Problem("expected the least and the largest value", f"--range {word}", "such as 1:5")
            )
    if options.reduce and options.reduce not in REDUCERS:
        problems.append(
            Problem("unknown", f"--reduce {options.reduce}", nearest(options.reduce, tuple(REDUCERS)))
        )
    raise_all(problems)
    return LogSettings(options.confidence, ranges=ranges, most_increase=limits[0], most_decrease=limits[1])


def shares(option: str, words: list[str]) -> tuple[dict[str, float], list[Problem]]:
    """Parse values of the form `SHARE` or `METRIC=SHARE`.

    Returns:
        The shares by metric ("" stands for all others), and what is wrong with the rest.
    """
    allowed: dict[str, float] = {}
    problems = []
    for word in words:
        metric, _, number = word.rpartition("=")
        try:
            share = float(number)
            valid = 0 <= share <= 1
        except ValueError:
            valid = False
        if valid:
            allowed[metric] = share
        else:
            problems.append(Problem("expected a share from 0 to 1", f"{option} {word}", "such as 0.02"))
    return allowed, problems


def table(comparison: LogComparison, settings: LogSettings) -> str:
    """Return the rows as a Markdown table, followed by the notes."""
    from unharm.report.log_page import metric_number, row_interval, row_name
    from unharm.report.words import p_value

    gated = any(row["gate"] for row in comparison.rows)
    head = [
        "task: metric",
        "A",
        "B",
        "B less A",
        "interval",
        "adjusted p",
        "verdict",
        *(["limit"] if gated else []),
        "n",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in comparison.rows:
        first = row["seeds"] if row["unit"].startswith("run") else row["profiles"]
        cells = [
            row_name(row), metric_number(row["value_reference"], row), metric_number(row["value_arm"], row),
            metric_number(row["value"], row, True), row_interval(row), p_value(row["p_adjusted"]),
            row["verdict"] + (f" ({row['note']})" if row["note"] else ""),
            *([row["gate"] or "–"] if gated else []),
            f"{first} × {row['units']}" + (f" − {row['unscored']}" if row["unscored"] else ""),
        ]  # fmt: skip
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    models = {side: list(dict.fromkeys(row[f"model_{side}"] for row in comparison.rows)) for side in "ab"}
    lines += ["", f"A: {', '.join(models['a'])}; B: {', '.join(models['b'])}."]
    lines += [
        "Paired by the ids of samples. Metrics from 0 to 1 in percent, differences in percentage points. "
        f"Intervals: {100 * settings.confidence:g} %. p: Holm over whole tasks, Benjamini-Hochberg over "
        "categories."
    ]
    lines += [f"- {note}" for note in comparison.notes]
    return "\n".join(lines)
