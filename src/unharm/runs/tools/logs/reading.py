"""Which logs a path stands for, and how each is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unharm.analysis.scored_log import ScoredLog
from unharm.core.errors import Problem, UserError, raise_all
from unharm.runs.tools.logs.inspect_log import read_log
from unharm.runs.tools.logs.lm_eval import read_samples

INSPECT, LM_EVAL = ".eval", ".jsonl"
JSON = ".json"
"""The other form of inspect_ai's logs; as a single file only, since folders have other JSON too."""


def names_logs(path: Path) -> bool:
    """Return whether a path is a log or a folder with logs, and no run folder."""
    if path.is_dir():
        return not (path / "study.json").exists() and bool(log_files(path))
    return path.suffix in (INSPECT, LM_EVAL, JSON)


def log_files(folder: Path) -> list[Path]:
    """Return the logs in a folder and below it, in the order of their names."""
    return sorted(p for kind in (INSPECT, LM_EVAL) for p in folder.rglob(f"*{kind}") if p.is_file())


def read_side(paths: Sequence[Path], category: str = "", reduce: str = "") -> list[ScoredLog]:
    """Read the logs of one side of a comparison.

    Args:
        paths: Files, or folders with logs.
        category: See `lm_eval.read_samples`.
        reduce: See `inspect_log.read_log`.

    Raises:
        UserError: With what is wrong with every file.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        several = log_files(path) if path.is_dir() else [path]
        if not several:
            problems.append(
                Problem("no log in this folder", str(path), f"expected {INSPECT} or {LM_EVAL} files")
            )
        files += several
    if twice := sorted({str(f) for f in files if files.count(f) > 1}):
        problems += [Problem("this log is given twice", name, "give it once") for name in twice]
    logs: list[ScoredLog] = []
    for file in files:
        try:
            logs.append(_read(file, category, reduce))
        except UserError as error:
            problems += error.problems
    raise_all(problems)
    return logs


def _read(file: Path, category: str, reduce: str) -> ScoredLog:
    if not file.is_file():
        raise UserError("there is no such file", str(file))
    if file.suffix == LM_EVAL:
        return read_samples(file, category)
    if file.suffix in (INSPECT, JSON):
        return read_log(file, category, reduce)
    raise UserError(
        f"not a log: {file.suffix or 'no ending'}", str(file), f"expected {INSPECT}, {JSON} or {LM_EVAL}"
    )
