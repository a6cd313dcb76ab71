"""What was done with each arm, in one row: how it was made, how far its training came, and the verdicts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from statistics import median
from typing import Any

import polars as pl

from unharm.analysis.alignment import TOOK, UNKNOWN
from unharm.analysis.measures import INCOHERENT
from unharm.analysis.metrics import ALL
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import has_profile, is_trained, steering
from unharm.report.answers import preferred_reading
from unharm.report.inputs import ReportedStudy
from unharm.report.sections import comparisons
from unharm.training.loss_fall import fall_of


def done_rows(
    study: ReportedStudy, tables: Mapping[str, pl.DataFrame], curves: pl.DataFrame
) -> list[dict[str, Any]]:
    """Return one row per arm under the first strategy.

    Returns:
        `arm`, `training` (a line per stage: steps, learning rate, change of the loss), `incoherent` (the
        benchmark with the largest share of incoherent completions), `aligned` (for how many profiles the
        alignment took), `harms` (how many metrics differ from vanilla's, are equivalent, undecided).
    """
    return [
        {
            "arm": arm,
            "training": _training(study, arm, curves),
            "incoherent": _incoherent(study, arm, tables["arms"]),
            "aligned": _aligned(study, arm, tables["alignment"]),
            "harms": _harms(study, arm, tables["comparisons"]),
        }
        for arm in study.arms
    ]


def view_command(folder: str, page: str = "") -> str:
    """Return the command that opens a page of the viewer on this run."""
    at = f" --at {shlex.quote(page)}" if page else ""
    return f"unharm view {shlex.quote(folder)}{at}"


def _training(study: ReportedStudy, arm: str, curves: pl.DataFrame) -> list[str]:
    """Return a line per stage of an arm's training."""
    if steering(arm):
        return ["not trained: value vectors are added to the activations"]
    if not is_trained(arm):
        return ["not trained: the profile is in the prompt" if has_profile(arm) else "not trained"]
    recipes: dict[str, Any] = study.settings.get("training", {})
    recipe = recipes.get("vim" if has_profile(arm) else "benign", {})
    lines = []
    own = curves.filter((pl.col("arm") == arm) & (pl.col("curve") == "train"))
    if arm == "vim":  # its second stage starts from the adapters of this arm
        own = pl.concat([curves.filter((pl.col("arm") == "vim-ag") & (pl.col("curve") == "train")), own])
    for (stage,), part in own.group_by(["stage"], maintain_order=True):
        falls = [fall_of(curve) for _, curve in part.group_by(["profile", "seed"], maintain_order=True)]
        steps, fall = median(s for s, _ in falls), median(f for _, f in falls)
        change = f"{-100 * fall:+.0f} %".replace("-", "−")
        lines.append(f"{stage}: {steps:,.0f} steps at {recipe.get('lr', 0):g}, loss {change}")
    return lines or ["no adapter was trained"]


def _incoherent(study: ReportedStudy, arm: str, arms: pl.DataFrame) -> str:
    """Return the largest share of incoherent completions with its benchmark."""
    rows = arms.filter(
        (pl.col("arm") == arm)
        & (pl.col("strategy") == study.strategies[0])
        & (pl.col("metric") == INCOHERENT)
        & (pl.col("category") == ALL)
        & pl.col("value").is_not_null()
    ).sort("value", descending=True)
    if not rows.height:
        return ""
    share = f"{100 * rows['value'][0]:.1f} %"
    return f"{share} ({BENCHMARKS[rows['benchmark'][0]].title})" if rows["value"][0] else share


def _aligned(study: ReportedStudy, arm: str, alignment: pl.DataFrame) -> str:
    """Return for how many profiles the alignment took."""
    if not has_profile(arm):
        return ""
    rows = alignment.filter((pl.col("arm") == arm) & (pl.col("strategy") == study.strategies[0]))
    if not rows.height:
        return ""
    part = preferred_reading(rows, arm)
    known = part.filter(pl.col("verdict") != UNKNOWN)
    took = known.filter(pl.col("verdict") == TOOK).height
    return f"took for {took} of {part.height}" if known.height else "not known"


def _harms(study: ReportedStudy, arm: str, table: pl.DataFrame) -> str:
    """Return how many metrics differ from vanilla's, by verdict."""
    rows = [
        r for r in comparisons(table)["vanilla"] if r["arm"] == arm and r["strategy"] == study.strategies[0]
    ]
    names = {"differs": "differ", "equivalent": "equivalent", "undecided": "undecided"}
    counts = {name: sum(r["verdict"] == verdict for r in rows) for verdict, name in names.items()}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)
