"""Sheets of labels as `unharm labels` writes them, of runs that have no base."""

from __future__ import annotations

import csv
from pathlib import Path

from unharm.core.files.delimited import guarded
from unharm.runs.context import Run
from unharm.runs.shards import all_shards
from unharm.runs.tools.label_sheet import COLUMNS


def write_sheet(run: Run, benchmark: str, path: Path, rater: str, count: int) -> list[str]:
    """Write a sheet of the first completions of every subject. Returns their ids."""
    rows: list[list[str]] = []
    for shard in all_shards(run):
        if shard.benchmark == benchmark:
            prompts = {p.id: p.text for p in shard.prompts}
            frame = run.store.scan(shard.completions).collect().head(2)
            rows += [
                [i, guarded(prompts[p]), guarded(text), rater, ""]
                for i, p, text in frame.select("completion_id", "prompt_id", "text").iter_rows()
            ]
    rows = rows[:count]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(COLUMNS), *rows])
    return [row[0] for row in rows]
