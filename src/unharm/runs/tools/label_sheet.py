"""A sheet of completions for human raters."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl

from unharm.core.draws import rank
from unharm.core.errors import UserError, nearest
from unharm.core.files.delimited import guarded
from unharm.core.files.disk import write_whole
from unharm.core.printable import printable
from unharm.runs.reopen import open_run
from unharm.runs.shards import all_shards

COLUMNS = ("completion_id", "prompt", "answer", "rater", "value")


def write_sheet(folder: Path, benchmark: str, sample: int, out: Path) -> int:
    """Write a CSV file with randomly drawn completions and empty columns for rater and value.

    Completions are drawn over all subjects with the study's seed. The sheet does not show the subject.

    Args:
        folder: The run folder.
        benchmark: The benchmark.
        sample: Number of completions.
        out: The file to write.

    Returns:
        The number of completions written.

    Raises:
        UserError: The run has no such benchmark, or the file exists already.
    """
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
    completions = (
        pl.concat(frames).filter((pl.col("status") == "completed") & (pl.col("text") != "")).collect()
    )
    prompts = {p.id: p.text for p in run.plan.prompts[benchmark].prompts}
    rows = sorted(completions.iter_rows(), key=lambda row: rank(run.study.seed, row[0]))[:sample]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows(
        [identity, guarded(printable(prompts[prompt])), guarded(printable(text)), "", ""]
        for identity, prompt, text, _ in rows
    )
    write_whole(out, buffer.getvalue().encode(), "the sheet", private=True)
    return len(rows)
