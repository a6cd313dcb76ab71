"""Reads the samples that lm-evaluation-harness writes with `--log_samples`: one JSON object per line.

A line has one document of a task under one filter: `doc_id`, `doc`, hashes of document and prompt,
`filter`, `metrics` (the names of its metrics) and each metric by its name. Older releases have no `filter`
and no `metrics`. The file is named `samples_TASK_DATE.jsonl`; `results_DATE.json` beside it has the
versions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from unharm.analysis.scored_log import LOG_SCHEMA, ScoredLog
from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.files.json_text import NotJson, parse_json
from unharm.core.hashing import content_hash

NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl$")
OF_SAMPLE = frozenset(
    ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash",
     "prompt_hash", "target_hash")
)  # fmt: skip
"""The keys of a sample that are no metric."""
NO_FILTER = "none"
MOST_PROBLEMS = 20
"""Number of wrong lines that a message lists."""
WHAT_IT_IS = "expected the samples of lm-evaluation-harness (--log_samples)"


def read_samples(path: Path, category: str = "") -> ScoredLog:
    """Read one file of samples.

    Args:
        path: The file.
        category: The field of a document that names its category; if it is empty, `category` where
            documents have it.

    Raises:
        UserError: With every line that is no sample, and every document that is there twice.
    """
    problems: list[Problem] = []
    rows: list[tuple[str, str, str, float | None, str]] = []
    first_line: dict[tuple[str, str], int] = {}
    prompts: dict[str, str] = {}
    without_number: dict[str, None] = {}
    for line, sample in _samples(path, problems):
        identity, filter_name = str(sample["doc_id"]), str(sample.get("filter") or NO_FILTER)
        where = f"{path}:{line}"
        earlier = first_line.setdefault((identity, filter_name), line)
        if earlier != line:
            problems.append(
                Problem(
                    f"document {identity!r} is in line {earlier} already", where, "keep one of the runs"
                )
            )
            continue
        document = sample.get("doc")
        group = document.get(category or "category") if isinstance(document, dict) else None
        if category and group is None:
            problems.append(
                Problem(f"its document has no field {category!r}", where, "name another --category")
            )
        content = str(sample.get("doc_hash") or content_hash(document))
        prompts[identity] = str(sample.get("prompt_hash") or "")
        for metric in _metric_names(sample):
            value, is_number = _number(sample.get(metric))
            if not is_number:
                without_number[metric] = None
                continue
            name = metric if filter_name == NO_FILTER else f"{metric},{filter_name}"
            rows.append((identity, "" if group is None else str(group), name, value, content))
    _raise_some(problems)
    if not rows:
        raise UserError("no sample has a metric that is one number", str(path), WHAT_IT_IS)
    notes = (f"no single number, left out: {', '.join(without_number)}",) if without_number else ()
    return _log(path, pl.DataFrame(rows, schema=LOG_SCHEMA, orient="row"), prompts, notes)


def _samples(path: Path, problems: list[Problem]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and content of every line that is a sample; add the others to `problems`."""
    try:
        with path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, 1):
                if not text.strip():
                    continue
                try:
                    sample = parse_json(text)
                except NotJson as error:
                    problems.append(Problem(error.problem, f"{path}:{line}", WHAT_IT_IS))
                    continue
                if not isinstance(sample, dict) or "doc_id" not in sample:
                    problems.append(Problem("no 'doc_id' in this line", f"{path}:{line}", WHAT_IT_IS))
                    continue
                yield line, sample
    except UnicodeDecodeError:
        raise UserError("not UTF-8", str(path), WHAT_IT_IS) from None
    except OSError as error:
        raise UserError(f"cannot read this file: {error.strerror}", str(path)) from None


def _raise_some(problems: list[Problem]) -> None:
    """Raise the problems, or the first of them and their number."""
    if len(problems) > MOST_PROBLEMS:
        rest = len(problems) - MOST_PROBLEMS
        problems = [*problems[:MOST_PROBLEMS], Problem(f"and {rest:,} more")]
    raise_all(problems)


def _metric_names(sample: dict[str, Any]) -> list[str]:
    named = sample.get("metrics")
    if isinstance(named, list):
        return [str(name) for name in named]
    return [key for key in sample if key not in OF_SAMPLE]


def _number(value: Any) -> tuple[float | None, bool]:
    """Return a score and whether it is one number. Null and NaN are scores that are missing."""
    if value is None:
        return None, True
    if not isinstance(value, int | float):
        return None, False
    return (float(value), True) if math.isfinite(value) else (None, True)


def _log(path: Path, scores: pl.DataFrame, prompts: dict[str, str], notes: tuple[str, ...]) -> ScoredLog:
    """Return a log with what its name and the file of results beside it say."""
    named = NAME.match(path.name)
    task = named["task"] if named else ""
    results = _results(path.with_name(f"results_{named['date']}.json")) if named else {}
    version = _of_task(results, "versions", task)
    shots = _of_task(results, "n-shot", task)
    settings = {"prompts": content_hash(prompts)[:12]} if any(prompts.values()) else {}
    settings |= {"examples in the prompt": shots} if shots else {}
    model = results.get("model_name")
    return ScoredLog(
        path=path,
        task=task,
        version=version,
        model=str(model) if model else path.parent.name if named else path.stem,
        scores=scores,
        settings=settings,
        notes=notes,
    )


def _results(path: Path) -> dict[str, Any]:
    """Return what a file of results says; nothing if there is none that can be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _of_task(results: dict[str, Any], key: str, task: str) -> str:
    by_task = results.get(key)
    value = by_task.get(task) if isinstance(by_task, dict) else None
    return "" if value is None else str(value)
