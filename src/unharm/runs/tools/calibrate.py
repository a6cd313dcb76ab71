"""Calibration: fit a map between two scorers on texts that both have scored."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from unharm.analysis.calibration import Calibration, calibrate
from unharm.analysis.score_maps import save_map
from unharm.core.errors import UserError, nearest
from unharm.core.files.delimited import Reader
from unharm.core.hashing import sha256_of
from unharm.runs.context import new_run
from unharm.runs.reopen import open_run
from unharm.runs.shards import all_shards
from unharm.scoring import SCORERS
from unharm.scoring.registry import score_texts, scorer_row
from unharm.study.check import load_study

CONTENT = "texts to score"


def calibrate_run(folder: Path, one: str, other: str, out: Path) -> dict[str, Any]:
    """Fit a map on the stored scores of a run. Raise `UserError` if no benchmark has both scorers."""
    run = open_run(folder)
    frames = []
    for shard in all_shards(run):
        if one in shard.scored and other in shard.scored:
            first, second = (run.store.scan(shard.scored[n]) for n in (one, other))
            frames.append(
                first.select("completion_id", group="prompt_id", one="value").join(
                    second.select("completion_id", other="value"), on="completion_id"
                )
            )
    if not frames:
        known = tuple(run.plan.scorers)
        wrong = next((name for name in (one, other) if name not in known), None)
        if wrong:
            raise UserError(f"this run has no scorer {wrong!r}", str(folder), nearest(wrong, known))
        raise UserError(
            "no benchmark of this run has both scorers",
            str(folder),
            f"score it with the other one too: unharm rescore {folder} --also {other}",
        )
    names = [(name, run.plan.scorers[name].version) for name in (one, other)]
    analysis = run.study.analysis
    fitted = calibrate(pl.concat(frames).collect(), names[0], names[1], analysis.confidence, run.study.seed)
    return _written(fitted, out)


def calibrate_texts(
    file: Path, study: str, overrides: list[str] | None, one: str, other: str, out: Path
) -> dict[str, Any]:
    """Fit a map on the texts of a CSV file.

    Scores are in columns named like the scorers. A scorer without a column scores the texts. The column
    `group` marks texts that belong together.

    Raises:
        UserError: With every wrong row, or for a scorer that is neither a column nor in the study.
    """
    checked = load_study(study, overrides)
    header = Reader(file, CONTENT, ("text",)).all_columns
    columns = [c for c in (one, other, "group") if c in header]
    reader = Reader(file, CONTENT, ("text", *columns))
    rows = []
    for row in reader.rows():
        values: dict[str, Any] = {"text": row["text"], "group": row.fields.get("group", str(row.line))}
        for name in columns:
            if name != "group":
                try:
                    values[name] = float(row[name]) if row[name] else None
                except ValueError:
                    reader.wrong(row.line, f"{CONTENT}: {row[name]!r} in {name!r} is not a number")
        rows.append(values)
    reader.finish()
    run = new_run(checked)
    known = (*SCORERS, *checked.scorers)
    missing = [name for name in (one, other) if name not in columns]
    for name in missing:
        if name not in known:
            todo = nearest(name, (*known, *header))
            raise UserError(f"{name!r} is neither a column of {file} nor a scorer", str(file), todo)
    run.scorers.check(missing)
    frame = pl.DataFrame(rows, infer_schema_length=None)
    for name in missing:
        scores = score_texts(run.scorers[name], frame["text"].to_list())
        frame = frame.with_columns(pl.Series(name, [s.value for s in scores], dtype=pl.Float64))
    pairs = frame.select("group", one=pl.col(one), other=pl.col(other))
    names = [
        (
            name,
            scorer_row(checked.scoring, name).version if name in known else f"file {sha256_of(file)[:12]}",
        )
        for name in (one, other)
    ]
    fitted = calibrate(pairs, names[0], names[1], checked.analysis.confidence, checked.seed)
    return _written(fitted, out)


def _written(fitted: Calibration, out: Path) -> dict[str, Any]:
    """Write a map and return its description."""
    save_map(fitted, out)
    description = {
        k: v for k, v in asdict(fitted).items() if k not in ("knots", "maps", "edges", "residuals")
    }
    return {"map": str(out), "key": fitted.key, **description}


def calibration_text(calibration: dict[str, Any]) -> str:
    """Return a fitted map as text."""
    lines = [
        f"{calibration['one']} → {calibration['other']}: {calibration['n']:,} texts in "
        f"{calibration['groups']:,} groups, "
        "measured on texts that the map was not fitted on"
    ]
    for name, e in calibration["error"].items():
        value = "–" if e["value"] is None else f"{e['value']:.3f}"
        between = "" if e["low"] is None else f"  [{e['low']:.3f} to {e['high']:.3f}]"
        lines.append(f"  {name.replace('_', ' '):22}{value:>7}{between}")
    return "\n".join([*lines, f"map: {calibration['map']}"])
