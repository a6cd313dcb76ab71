"""What a run's export to other tools is made of: one file per subject and benchmark."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import polars as pl

from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.disk import PRIVATE_FILE, make_private
from unharm.core.progress import Progress
from unharm.core.records import Subject
from unharm.runs import keys
from unharm.runs.context import Run
from unharm.runs.keys import Shard
from unharm.runs.shards import all_shards


@dataclass(frozen=True)
class ExportedLog:
    """A log to write: a subject, a benchmark and its shards."""

    subject: Subject
    benchmark: str
    shards: tuple[Shard, ...]
    file: Path


def selected(
    run: Run, folder: Path, arms: list[str], benchmarks: list[str], ending: str
) -> Iterator[ExportedLog]:
    """Yield the logs to write.

    Args:
        run: The run.
        folder: Where they go.
        arms: Only these arms, or all if the list is empty.
        benchmarks: Only these benchmarks, or all if the list is empty.
        ending: The ending of the files.

    Raises:
        UserError: A name is unknown.
    """
    known = {"--arm": tuple(run.study.arms), "--benchmark": tuple(run.study.benchmarks.chosen())}
    raise_all(
        [
            Problem(f"not in this run: {name!r}", option, nearest(name, known[option]))
            for option, names in (("--arm", arms), ("--benchmark", benchmarks))
            for name in names
            if name not in known[option]
        ]
    )
    for (subject, benchmark), shards in groupby(all_shards(run), key=lambda s: (s.subject, s.benchmark)):
        if (arms and subject.arm not in arms) or (benchmarks and benchmark not in benchmarks):
            continue
        name = keys.folder(subject.arm, subject.profile_name, subject.strategy, subject.seed)
        yield ExportedLog(subject, benchmark, tuple(shards), folder / f"{name}--{benchmark}{ending}")


def check_free(logs: Sequence[ExportedLog], force: bool) -> None:
    """Raise `UserError` with every file that exists, unless they may be written again."""
    todo = "name another folder, or write over it with --force"
    raise_all(
        [
            Problem("this log exists already", str(log.file), todo)
            for log in logs
            if log.file.exists() and not force
        ]
    )


def write_logs(
    logs: Sequence[ExportedLog],
    folder: Path,
    name: str,
    unit: str,
    write: Callable[[ExportedLog, Path], None],
    unfinished: str = "",
) -> list[Path]:
    """Write every log whole or not at all, readable by the user alone, and return the files.

    Args:
        logs: The logs.
        folder: Where they go; it is made.
        name: The name of the progress.
        unit: What it counts.
        write: Writes a log to a path.
        unfinished: The ending of files that are not whole yet, where readers take all files of theirs.

    Raises:
        UserError: A file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Progress(name, len(logs), unit) as progress:
            for log in logs:
                partial = log.file.with_name(f".{os.getpid()}-{log.file.name}{unfinished}")
                write(log, partial)
                partial.chmod(PRIVATE_FILE)
                os.replace(partial, log.file)
                progress.tick(1)
        make_private(folder)
    except OSError as error:
        raise UserError(f"cannot write here: {error.strerror or error}", str(folder)) from None
    return [log.file for log in logs]


def written_at(run: Run, log: ExportedLog) -> str:
    """Return when the last completion of a log was written, in ISO 8601."""
    at = max(run.store.root.joinpath(s.completions.path).stat().st_mtime for s in log.shards)
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def answers(run: Run, log: ExportedLog, scorers: list[str]) -> pl.DataFrame:
    """Return the completions of a log in the order of prompts.

    Value, label, status and reason of every scorer are columns, named `value:SCORER` and so on.
    """
    frame = pl.concat([run.store.scan(s.completions) for s in log.shards])
    for name in scorers:
        scores = pl.concat([run.store.scan(s.scored[name]) for s in log.shards])
        columns = [pl.col(c).alias(f"{c}:{name}") for c in ("value", "label", "status", "reason")]
        frame = frame.join(
            scores.select("completion_id", *columns), on="completion_id", how="left", maintain_order="left"
        )
    return frame.collect()
