"""Reads the logs of inspect_ai (`.eval` and `.json`) with its own reader.

The epochs of a sample become one number by the log's reducer (`mean` where it names none).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from unharm.analysis.scored_log import EPOCHS, LOG_SCHEMA, MAXIMUM, REDUCER, ScoredLog
from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.hashing import content_hash
from unharm.runs.tools.logs.inspect_package import needed

OURS = "unharm"
"""The key of the metadata that unharm adds to a log that it writes."""

REDUCERS: dict[str, Callable[[list[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "median": median,
    MAXIMUM: max,
}
"""How the epochs of a sample become one number."""

LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What inspect_ai's own metrics take these values for."""


def read_log(path: Path, category: str = "", reduce: str = "") -> ScoredLog:
    """Read one log.

    Args:
        path: The file.
        category: The field of a sample's metadata that names its category; if it is empty, `category` where
            samples have it.
        reduce: One of `REDUCERS`; if it is empty, what the log names.

    Raises:
        UserError: inspect_ai is missing, the file is no log, is not complete or of another version, a
            sample is there twice, or its epochs are reduced in a way that is not in `REDUCERS`.
    """
    reader = needed("inspect_ai.log", str(path))
    try:
        header = reader.read_eval_log(str(path), header_only=True)
        samples = reader.read_eval_log_sample_summaries(str(path))
    except Exception as error:  # the reader raises errors of its parts: zip, JSON, validation
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(
            f"inspect_ai cannot read this log: {reason}",
            str(path),
            "expected a log of inspect_ai; a newer log needs a newer inspect_ai",
        ) from None
    if header.status != "success":
        raise UserError(
            f"this log is not complete: its status is {header.status!r}",
            str(path),
            "finish it: inspect eval-retry",
        )
    name = reduce or str((header.eval.config.epochs_reducer or ["mean"])[0])
    if name not in REDUCERS:
        todo = f"give --reduce {'|'.join(REDUCERS)}"
        raise UserError(f"epochs are reduced by {name!r}, which is not known", str(path), todo)
    reducer = REDUCERS[name]
    values, contents, groups, left_out = _collect(samples, path, category)
    rows = [
        (identity, groups[identity], metric, reducer(known) if known else None, contents[identity])
        for (metric, identity), several in values.items()
        for known in [[v for v in several if v is not None]]
    ]
    if not rows:
        raise UserError("no sample of this log has a score", str(path), "score it: inspect score")
    scores = pl.DataFrame(rows, schema=LOG_SCHEMA, orient="row")
    return _log(path, header, scores, name, tuple(left_out))


def _collect(
    samples: list[Any], path: Path, category: str
) -> tuple[dict[tuple[str, str], list[float | None]], dict[str, str], dict[str, str], list[str]]:
    """Return the values of each metric and sample over its epochs, the hash of each input, each category,
    and notes on what is no number."""
    values: dict[tuple[str, str], list[float | None]] = {}
    contents: dict[str, str] = {}
    groups: dict[str, str] = {}
    strange: dict[str, None] = {}
    seen: set[tuple[str, int]] = set()
    problems: list[Problem] = []
    for sample in samples:
        identity = str(sample.id)
        if (identity, sample.epoch) in seen:
            problems.append(
                Problem(f"sample {identity!r} of epoch {sample.epoch} is there twice", str(path))
            )
        seen.add((identity, sample.epoch))
        contents[identity] = content_hash(_text(sample.input))
        group = (sample.metadata or {}).get(category or "category")
        if category and group is None:
            todo = "name another --category"
            problems.append(Problem(f"sample {identity!r} has no metadata {category!r}", str(path), todo))
        groups[identity] = "" if group is None else str(group)
        for scorer, score in (sample.scores or {}).items():
            for metric, value in _parts(scorer, score.value):
                number, readable = _number(value)
                if not readable:
                    strange[metric] = None
                values.setdefault((metric, identity), []).append(number)
    raise_all(problems[:20])
    notes = [f"values that are no number count as unscored: {', '.join(strange)}"] if strange else []
    return values, contents, groups, notes


def _text(content: Any) -> Any:
    """Return the texts of an input without the random ids of its messages."""
    if isinstance(content, str):
        return content
    return [[message.role, message.text] for message in content]


def _parts(scorer: str, value: Any) -> list[tuple[str, Any]]:
    """Return the metrics of a score: one, or one per key."""
    if isinstance(value, Mapping):
        return [(f"{scorer}/{key}", part) for key, part in value.items()]
    return [(scorer, value)]


def _number(value: Any) -> tuple[float | None, bool]:
    """Return a score as a number, None where it is unscored, and whether it could be read."""
    if isinstance(value, bool | int | float):
        return (float(value), True) if math.isfinite(value) else (None, True)
    if isinstance(value, str):
        if value in LETTERS or value.lower() in WORDS:
            return LETTERS.get(value, WORDS.get(value.lower())), True
        try:
            number = float(value)
        except ValueError:
            return None, False
        return (number, True) if math.isfinite(number) else (None, True)
    return None, value is None


def _log(path: Path, header: Any, scores: pl.DataFrame, reducer: str, notes: tuple[str, ...]) -> ScoredLog:
    spec = header.eval
    ours = (spec.metadata or {}).get(OURS)
    ours = ours if isinstance(ours, dict) else {}
    settings = {EPOCHS: str(spec.config.epochs or 1), REDUCER: reducer}
    ranges = {
        str(name): (float(bounds[0]), float(bounds[1]))
        for name, bounds in (ours.get("ranges") or {}).items()
    }
    seed = ours.get("seed")
    return ScoredLog(
        path=path,
        task=str(spec.task),
        version=str(spec.task_version),
        model=" · ".join(filter(None, (str(spec.model), str(ours.get("arm", ""))))),
        scores=scores,
        ranges=ranges,
        settings=settings,
        arm=str(ours.get("arm", "")),
        strategy=str(ours.get("strategy", "")),
        profile=str(ours.get("profile", "")),
        seed=seed if isinstance(seed, int) else None,
        notes=notes,
    )
