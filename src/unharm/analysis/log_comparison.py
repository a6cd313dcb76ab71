"""Comparison of two sides of logs that other tools wrote, with the statistics of `comparisons`.

Each side has one or several logs of a task. Several logs of one side are repeated runs, or the subjects of
an exported study: they become rows of the matrix rows × prompts, as profiles and seeds do in a study. Both
sides are paired by the ids of prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.comparisons import Cells, difference_row, verdict_of
from unharm.analysis.gate import OPEN, RISEN, WITHIN
from unharm.analysis.intervals import adjust_rows, adjusted, holm
from unharm.analysis.metrics import ALL
from unharm.analysis.paired import Difference, Rows, differences
from unharm.analysis.scored_log import EPOCHS, MAXIMUM, REDUCER, ScoredLog
from unharm.analysis.settings import DEFAULT_MARGIN
from unharm.core.errors import Problem, raise_all
from unharm.core.records import Profile, Subject
from unharm.core.values import VALUES

Range = tuple[float, float]
FALLEN = "fallen"
UNBOUNDED: Range = (0.0, float("inf"))
SHOWN = 5
"""Number of ids that a message names."""


@dataclass(frozen=True)
class LogSettings:
    """How two sides are compared.

    Attributes:
        confidence: Of intervals, and of all verdicts of the gate together.
        fdr: The largest adjusted p of a difference.
        margin: The largest difference that does not matter, as a share of a metric's range.
        ranges: The least and the largest value by metric. A metric that is not named, and of which the log
            does not say it, has the range 0 to 1 if all its values lie there, else none.
        most_increase, most_decrease: Allowed changes by metric as a share of its range ("" for all others).
    """

    confidence: float = 0.95
    fdr: float = 0.05
    margin: float = DEFAULT_MARGIN
    ranges: Mapping[str, Range] = field(default_factory=dict)
    most_increase: Mapping[str, float] = field(default_factory=dict)
    most_decrease: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LogComparison:
    """The rows of a comparison (see `compare_logs`), and what a reader should know about it."""

    rows: list[dict[str, Any]]
    notes: list[str]


def compare_logs(
    before: Sequence[ScoredLog], after: Sequence[ScoredLog], settings: LogSettings
) -> LogComparison:
    """Compare two sides on the prompts that both have, by task, metric and category.

    Args:
        before: The logs of the reference.
        after: The logs of the other side.
        settings: How they are compared.

    Returns:
        Rows with `task`, `metric`, `category`, `range` and the columns of `comparisons.difference_row`
        (`value` is the second side less the first), `p_adjusted` (Holm over whole tasks, Benjamini-Hochberg
        over categories), `verdict`, and `gate` where a change is limited.

    Raises:
        UserError: With everything that makes the sides incomparable: no common task, prompt or metric,
            another version of a task, or other prompts under the same ids.
    """
    sides = _by_task(before), _by_task(after)
    tasks = _common_tasks(*sides)
    notes = _left_out(sides, tasks)
    problems: list[Problem] = []
    rows: list[dict[str, Any]] = []
    changes: list[tuple[dict[str, Any], Difference, Difference, Range]] = []
    for name, (first, second) in tasks.items():
        pair = sides[0][first], sides[1][second]
        wrong = _task_problems(name, *pair)
        problems += wrong
        if wrong:
            continue
        notes += _task_notes(name, *pair)
        for change in _task_rows(name, *pair, settings):
            rows.append(change[0])
            changes.append(change)
    raise_all(problems)
    for whole, adjust in ((True, holm), (False, adjusted)):
        adjust_rows([r for r in rows if (r["category"] == ALL) == whole], adjust)
    for row in rows:
        row["verdict"] = verdict_of(row, settings.fdr)
    _judge(changes, settings)
    return LogComparison(rows, notes)


def _by_task(logs: Sequence[ScoredLog]) -> dict[str, list[ScoredLog]]:
    tasks: dict[str, list[ScoredLog]] = {}
    for log in logs:
        tasks.setdefault(log.task, []).append(log)
    return tasks


def _common_tasks(
    before: Mapping[str, list[ScoredLog]], after: Mapping[str, list[ScoredLog]]
) -> dict[str, tuple[str, str]]:
    """Return the tasks that both sides have, with their names on each side.

    If each side has one task and one of them has no name, they are taken for the same.
    """
    common = {name: (name, name) for name in before if name in after}
    if common:
        return common
    one, other = next(iter(before)), next(iter(after))
    if len(before) == len(after) == 1 and not (one and other):
        return {one or other or "samples": (one, other)}
    names = [", ".join(name or "(no name)" for name in side) for side in (before, after)]
    raise_all(
        [
            Problem(
                f"no common task: {names[0]} and {names[1]}", "unharm compare", "compare logs of one task"
            )
        ]
    )
    return {}


def _left_out(
    sides: tuple[Mapping[str, list[ScoredLog]], Mapping[str, list[ScoredLog]]],
    tasks: Mapping[str, tuple[str, str]],
) -> list[str]:
    notes = []
    for place, (letter, side) in enumerate(zip("AB", sides, strict=True)):
        used = {names[place] for names in tasks.values()}
        if only := [name for name in side if name not in used]:
            notes.append(f"only in {letter}, left out: {', '.join(only)}")
    return notes


def _task_problems(task: str, before: Sequence[ScoredLog], after: Sequence[ScoredLog]) -> list[Problem]:
    """Return what makes the logs of a task incomparable."""
    problems = []
    logs = [*before, *after]
    where = ", ".join(str(log.path) for log in (before[0], after[0]))
    versions = sorted({log.version for log in logs if log.version})
    if len(versions) > 1:
        problems.append(
            Problem(
                f"{task}: other versions of the task: {', '.join(versions)}",
                where,
                "run both with one version",
            )
        )
    for side in (before, after):
        subjects = sorted({(log.arm, log.strategy) for log in side})
        if len(subjects) > 1:
            names = ", ".join(" · ".join(filter(None, s)) or "another tool" for s in subjects)
            problems.append(
                Problem(
                    f"{task}: one side has several arms: {names}",
                    str(side[0].path),
                    "give the logs of one arm",
                )
            )
        known = [(log.arm, log.profile, log.seed) for log in side if log.arm]
        if twice := sorted({subject for subject in known if known.count(subject) > 1}, key=str):
            names = ", ".join(
                " · ".join(str(x) for x in subject if x not in ("", None)) for subject in twice
            )
            problems.append(
                Problem(
                    f"{task}: several logs of the same subject: {names}",
                    str(side[0].path),
                    "give each once",
                )
            )
    ids = [set().union(*(log.scores["id"].to_list() for log in side)) for side in (before, after)]
    if not ids[0] & ids[1]:
        problems.append(
            Problem(f"{task}: no sample has the same id in both", where, "compare logs of the same data")
        )
    elif not set(_metrics(before)) & set(_metrics(after)):
        names = " and ".join(", ".join(_metrics(side)) or "none" for side in (before, after))
        problems.append(Problem(f"{task}: no common metric: {names}", where, "score both alike"))
    epochs = {log.settings.get(EPOCHS, "") for log in logs}
    if len(epochs) > 1 and any(log.settings.get(REDUCER) == MAXIMUM for log in logs):
        text = f"{task}: the maximum over {' and '.join(sorted(epochs))} epochs is not comparable"
        problems.append(Problem(text, where, "give --reduce mean"))
    contents = pl.concat([log.scores.select("id", "content") for log in logs]).unique()
    other = contents.filter(pl.col("content") != "").group_by("id").len().filter(pl.col("len") > 1)
    if other.height:
        some = ", ".join(sorted(other["id"].to_list())[:SHOWN])
        problems.append(
            Problem(
                f"{task}: {other.height:,} samples have the same id but other content: {some}",
                where,
                "compare logs of the same data",
            )
        )
    return problems


def _task_notes(task: str, before: Sequence[ScoredLog], after: Sequence[ScoredLog]) -> list[str]:
    """Return what differs between comparable logs of a task."""
    notes = [f"{log.path.name}: {note}" for log in (*before, *after) for note in log.notes]
    ids = [set().union(*(log.scores["id"].to_list() for log in side)) for side in (before, after)]
    if alone := len(ids[0] ^ ids[1]):
        notes.append(
            f"{task}: {alone:,} of {len(ids[0] | ids[1]):,} samples are in one side only and left out"
        )
    only = [
        m
        for m in dict.fromkeys([*_metrics(before), *_metrics(after)])
        if m not in _common_metrics(before, after)
    ]
    if only:
        notes.append(f"{task}: metrics of one side only, left out: {', '.join(only)}")
    for key in dict.fromkeys(key for log in (*before, *after) for key in log.settings):
        values = list(dict.fromkeys(log.settings.get(key, "not said") for log in (*before, *after)))
        if len(values) > 1:
            notes.append(f"{task}: {key} differs: {', '.join(values)}")
    return notes


def _metrics(logs: Sequence[ScoredLog]) -> list[str]:
    return list(dict.fromkeys(metric for log in logs for metric in log.metrics))


def _common_metrics(before: Sequence[ScoredLog], after: Sequence[ScoredLog]) -> list[str]:
    return [metric for metric in _metrics(before) if metric in _metrics(after)]


def _task_rows(
    task: str, before: Sequence[ScoredLog], after: Sequence[ScoredLog], settings: LogSettings
) -> list[tuple[dict[str, Any], Difference, Difference, Range]]:
    """Return the rows of a task, each with its change, the same the other way round, and its range."""
    cells = Cells()
    metrics = _common_metrics(before, after)
    units = pl.concat([log.scores.select("metric", "id", "category") for log in before])
    units = units.unique(["metric", "id"], keep="first", maintain_order=True)
    for letter, logs in (("A", before), ("B", after)):
        for number, log in enumerate(logs):
            for metric in metrics:
                values = log.scores.filter(pl.col("metric") == metric).select("id", "value")
                if values.height:
                    of_metric = units.filter(pl.col("metric") == metric)
                    column = of_metric.join(values, on="id", how="left", maintain_order="left")
                    cells.add(_subject(letter, log, number), task, metric, column)
    names = [logs[0].model or letter for letter, logs in (("A", before), ("B", after))]
    results = []
    for metric in metrics:
        other, one = (cells.rows((letter, ""), task, metric) for letter in "AB")
        bounds = _range(metric, (*before, *after), settings.ranges)
        margin = settings.margin * (bounds[1] - bounds[0]) if np.isfinite(bounds[1] - bounds[0]) else None
        categories = cells.units[task, metric][1]
        parts = cells.categories(task, metric)
        groups = (
            [(ALL, np.ones(len(categories), dtype=bool))],
            [(name, categories == name) for name in parts],
        )
        row = {
            "task": task,
            "metric": metric,
            "model_a": names[0],
            "model_b": names[1],
            "range": _shown(bounds),
        }
        for group in filter(None, groups):
            masks = [mask for _, mask in group]
            forth = differences(one, other, masks, bounds, settings.confidence)
            back = differences(other, one, masks, bounds, settings.confidence)
            for (name, mask), change, reverse in zip(group, forth, back, strict=True):
                numbers = difference_row(change, (one, other), mask, _unit(one, other), margin)
                results.append((row | {"category": name} | numbers, change, reverse, bounds))
    return results


def _subject(letter: str, log: ScoredLog, number: int) -> Subject:
    """Return the row of a log: its profile and seed if unharm exported it, else the number of the run."""
    profile = Profile(log.profile, (1.0,) * len(VALUES)) if log.profile else None
    seed = log.seed if log.arm else number
    return Subject(letter, profile, "", seed)


def _unit(one: Rows, other: Rows) -> str:
    return "profile × prompt" if any(one.profiles) or any(other.profiles) else "run × prompt"


def _range(metric: str, logs: Sequence[ScoredLog], given: Mapping[str, Range]) -> Range:
    """Return the range of a metric: as it is given, as the logs say, 0 to 1 if all values fit, or none."""
    if metric in given or "" in given:
        return given.get(metric, given.get("", UNBOUNDED))
    for log in logs:
        if metric in log.ranges:
            return log.ranges[metric]
    values = pl.concat(
        [log.scores.filter(pl.col("metric") == metric)["value"].drop_nulls() for log in logs]
    )
    return (0.0, 1.0) if values.is_between(0, 1).all() else UNBOUNDED


def _shown(bounds: Range) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g}" if np.isfinite(bounds[1]) else "none"


def _judge(
    changes: Sequence[tuple[dict[str, Any], Difference, Difference, Range]], settings: LogSettings
) -> None:
    """Set `gate` of every row whose change is limited: see `gate.gate`, for both directions."""
    limits = (settings.most_increase, RISEN, 1), (settings.most_decrease, FALLEN, -1)
    for allowed, broken, sign in limits:
        tested: list[dict[str, Any]] = []
        for row, change, reverse, bounds in changes:
            share = allowed.get(row["metric"], allowed.get(""))
            moved = change if sign > 0 else reverse
            if share is None or moved.joint is None or not np.isfinite(bounds[1]):
                continue
            limit = share * (bounds[1] - bounds[0])
            tested.append({"row": row, "p": moved.p_beyond(limit, bounds), "p_adjusted": None})
            beyond = moved.high is not None and moved.high > limit
            row["gate"] = OPEN if beyond else row.get("gate", WITHIN)
        adjust_rows(tested, holm)
        for test in tested:
            if test["p_adjusted"] is not None and test["p_adjusted"] <= 1 - settings.confidence:
                test["row"]["gate"] = broken
    for row, *_ in changes:
        row.setdefault("gate", None)
