"""A sheet of completions for people to label."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl

from unharm.core.draws import rank
from unharm.core.errors import UserError, nearest
from unharm.core.files.disk import write_whole
from unharm.runs.reopen import open_run
from unharm.runs.shards import all_shards

COLUMNS = ("completion_id", "prompt", "answer", "rater", "value")


def write_sheet(folder: Path, benchmark: str, sample: int, out: Path) -> int:
    """Writes a CSV with so many completions of a run, drawn by the study's seed over all subjects and
    without saying which, and empty columns for rater and value; gives their number. Raises `UserError`
    where the run has no such benchmark, or the file is there already."""
    run = open_run(folder)
    chosen = tuple(run.study.benchmarks.chosen())
    if benchmark not in chosen:
        raise UserError(
            f"this run has no benchmark {benchmark!r}", "--benchmark", nearest(benchmark, chosen)
        )
    if out.exists():
        raise UserError("this file exists already", str(out), "its labels would be lost; choose another")
    frames = [
        run.store.scan(s.completions).select("completion_id", "prompt_id", "text", "status")
        for s in all_shards(run)
        if s.benchmark == benchmark
    ]
    whole = pl.concat(frames).filter((pl.col("status") == "completed") & (pl.col("text") != "")).collect()
    prompts = {p.id: p.text for p in run.plan.prompts[benchmark].prompts}
    rows = sorted(whole.iter_rows(), key=lambda row: rank(run.study.seed, row[0]))[:sample]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows([identity, prompts[prompt], text, "", ""] for identity, prompt, text, _ in rows)
    write_whole(out, buffer.getvalue().encode(), "the sheet")
    return len(rows)
