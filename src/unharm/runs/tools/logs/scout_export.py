"""Writes a run as a transcript database of inspect_scout: Parquet files, one per subject and benchmark.

A completion is a transcript of two messages. What the schema of inspect_scout has no column for is in
columns of its own, which it takes for metadata: a query of transcripts can name them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from unharm.runs.adapters import adapter_folder
from unharm.runs.context import Run
from unharm.runs.tools.logs.exported import (
    ExportedLog,
    answers,
    check_free,
    selected,
    write_logs,
    written_at,
)

SCHEMA: dict[str, Any] = {
    **dict.fromkeys(
        ("transcript_id", "source_type", "source_id", "date", "task_set", "task_id"), pl.String
    ),
    "task_repeat": pl.Int64,
    **dict.fromkeys(("agent", "model", "model_options", "score", "score_explanation"), pl.String),
    "message_count": pl.Int64,
    "total_tokens": pl.Int64,
    **dict.fromkeys(("error", "messages"), pl.String),
    **dict.fromkeys(("arm", "profile", "strategy"), pl.String),
    "seed": pl.Int64,
    **dict.fromkeys(("category", "completion_id", "adapter"), pl.String),
}
"""The columns of inspect_scout that a run fills, then ours. Scores have a column per scorer besides."""


def export_scout(
    run: Run, folder: Path, arms: list[str], benchmarks: list[str], force: bool = False
) -> list[Path]:
    """Write the transcripts of a finished run.

    Args:
        run: The run.
        folder: Where they go; it is made, and only the user may read what is in it.
        arms: Only these arms, or all if the list is empty.
        benchmarks: Only these benchmarks, or all if the list is empty.
        force: Whether files that exist are written again.

    Returns:
        The files.

    Raises:
        UserError: A name is unknown, or a file exists.
    """
    logs = list(selected(run, folder, arms, benchmarks, ".parquet"))
    check_free(logs, force)

    def write(log: ExportedLog, path: Path) -> None:
        transcripts(run, log).write_parquet(path, compression="zstd")

    return write_logs(logs, folder, "scout", "files", write, unfinished=".part")


def transcripts(run: Run, log: ExportedLog) -> pl.DataFrame:
    """Return the completions of a subject and a benchmark, one row each."""
    settings = run.study.benchmarks.chosen()[log.benchmark]
    prompts = {p.id: p for p in run.plan.prompts[log.benchmark].prompts}
    adapter = adapter_folder(run, log.subject)
    columns = {name: score_column(name) for name in settings.scorers}
    shared = {
        "source_type": "unharm",
        "source_id": run.study.name,
        "date": written_at(run, log),
        "task_set": log.benchmark,
        "agent": log.subject.label,
        "model": f"unharm/{run.base.name}",
        "model_options": json.dumps(
            {
                "temperature": settings.temperature,
                "top_p": settings.top_p,
                "max_tokens": settings.max_tokens,
            }
        ),
        "message_count": 2,
        "arm": log.subject.arm,
        "profile": log.subject.profile_name,
        "strategy": log.subject.strategy,
        "seed": log.subject.seed,
        "adapter": adapter.name if adapter else "",
    }
    rows = []
    for row in answers(run, log, settings.scorers).iter_rows(named=True):
        prompt = prompts[row["prompt_id"]]
        value = row[f"value:{settings.scorer}"]
        rows.append(
            shared
            | {
                "transcript_id": f"{run.base.key[:8]}-{row['completion_id']}",
                "task_id": prompt.id,
                "task_repeat": row["sample"] + 1,
                "score": None if value is None else str(value),
                "score_explanation": row[f"label:{settings.scorer}"] or None,
                "total_tokens": row["prompt_tokens"] + row["tokens"],
                "error": row["reason"] if row["status"] == "failed" else None,
                "messages": _messages(row["completion_id"], prompt.text, row["text"]),
                "category": prompt.category,
                "completion_id": row["completion_id"],
            }
            | {column: row[f"value:{name}"] for name, column in columns.items()}
        )
    return pl.DataFrame(rows, schema=SCHEMA | dict.fromkeys(columns.values(), pl.Float64), orient="row")


def score_column(scorer: str) -> str:
    """Return the column of a scorer's values, a name that SQL needs not quote."""
    return "score_" + re.sub(r"\W", "_", scorer)


def _messages(identity: str, prompt: str, answer: str) -> str:
    """Return prompt and answer as messages of inspect_ai."""
    return json.dumps(
        [
            {"id": f"{identity}-user", "role": "user", "content": prompt},
            {"id": f"{identity}-assistant", "role": "assistant", "content": answer, "source": "generate"},
        ],
        ensure_ascii=False,
    )
