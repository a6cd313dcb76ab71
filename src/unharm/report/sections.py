"""Sections of the page from the stored tables: comparisons, hypotheses, power, what moved besides."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.correlations import detectable
from unharm.analysis.measures import COHERENT, INCOHERENT, LENGTH, of_quality
from unharm.analysis.metrics import ALL
from unharm.benchmarks.registry import HARMLESS
from unharm.core.arms import VIM_STAGES, has_profile
from unharm.core.values import VALUES
from unharm.report.inputs import ReportedStudy, TriedGuards

VERDICTS = ("supported", "contradicted", "not shown", "not tested")


def comparisons(table: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Rows of harms against vanilla, between other arms, of strategies, and by category where they hold
    before anything else."""
    rows = [r for r in table.to_dicts() if not of_quality(r["metric"])]
    whole = [r for r in rows if r["category"] == ALL]
    parts = [r for r in rows if r["category"] != ALL and r["p"] is not None]
    return {
        "vanilla": [r for r in whole if r["kind"] == "arms" and r["reference"] == "vanilla"],
        "others": [r for r in whole if r["kind"] == "arms" and r["reference"] != "vanilla"],
        "strategies": [r for r in whole if r["kind"] == "strategies"],
        "categories": sorted((r for r in parts if r["kind"] == "arms"), key=lambda r: r["p"])[:40],
        "mitigated": sorted((r for r in parts if r["kind"] == "strategies"), key=lambda r: r["p"])[:40],
    }


def holding(rows: list[dict[str, Any]], level: float) -> list[dict[str, Any]]:
    """The rows whose adjusted p is at most `level`, the smallest first."""
    found = [r for r in rows if r["p_adjusted"] is not None and r["p_adjusted"] <= level]
    return sorted(found, key=lambda r: r["p_adjusted"])


def hypotheses(table: pl.DataFrame) -> dict[str, Any]:
    """The judged hypotheses, those with a verdict first, and how many have each."""
    rows = sorted(table.to_dicts(), key=lambda r: VERDICTS.index(r["verdict"]))
    counts = {v: sum(r["verdict"] == v for r in rows) for v in VERDICTS}
    return {"rows": rows, "counts": {v: n for v, n in counts.items() if n}}


def powers(associations: pl.DataFrame, study: ReportedStudy) -> dict[str, str]:
    """For each heat map a sentence on the smallest correlation that it could find."""
    found = {}
    for (arm, strategy), part in associations.group_by(["arm", "strategy"], maintain_order=True):
        tests, n = part["p"].count(), max(part["n"].to_list())
        least = detectable(n, tests, study.analysis.fdr) if tests else None
        if least is None:
            text = f"With {n} profiles no correlation can be told from chance."
        else:
            text = (
                f"With {n} profiles and {tests} tests, a single correlation of |r| = {least:.2f} would be "
                "found with a chance of 80 %; a smaller one may be there and not be shown."
            )
        found[f"{arm} · {strategy}"] = text
    return found


def axes(regressions: pl.DataFrame) -> list[dict[str, Any]]:
    """The regressions on the axes of the circle for the first value-injected arm, the smallest p first."""
    rows = [r for r in regressions.to_dicts() if r["model"] == "axes" and r["p"] is not None]
    arms = sorted({r["arm"] for r in rows}, key=lambda arm: (arm not in VIM_STAGES, arm))
    return sorted((r for r in rows if r["arm"] == arms[0]), key=lambda r: r["p"])[:12] if arms else []


def moved(table: pl.DataFrame, study: ReportedStudy) -> list[dict[str, Any]]:
    """Per aligned arm: how each value's rating moved for profiles that want it up, and down."""
    found = []
    here = table.filter(pl.col("strategy") == study.strategies[0])
    for arm in study.arms:
        text = here.filter((pl.col("arm") == arm) & (pl.col("reading") == "text"))
        part = text if text["value"].count() else here.filter(
            (pl.col("arm") == arm) & (pl.col("reading") == "distribution")
        )  # fmt: skip
        rows = {(r["schwartz_value"], r["aim"]): r for r in part.to_dicts()}
        if rows:
            values = [{"value": v, "up": rows[v, "up"], "down": rows[v, "down"]} for v in VALUES]
            found.append({"arm": arm, "reading": part["reading"][0], "rows": values})
    return found


def mitigation(tried: TriedGuards | None) -> dict[str, Any] | None:
    """What was tried on the second half: comparisons of strategies, their costs, the guards with what was
    learned for them. None where nothing was tried."""
    if tried is None:
        return None
    table, learned, found = tried.comparisons, tried.learned, tried.guards
    by_harm = {(row["benchmark"], row["category"]): row for row in learned}
    rows = [r for r in table.to_dicts() if r["kind"] == "strategies"]
    whole = [r for r in rows if r["category"] == ALL]
    paid = [r for r in whole if r["metric"] in (INCOHERENT, LENGTH) or r["benchmark"] == HARMLESS]
    parts = [r for r in rows if r["category"] != ALL and r["p"] is not None]
    profiles = {r["profiles"] for r in whole if has_profile(r["arm"])}
    return {
        "arm": next((r["arm"] for r in whole if has_profile(r["arm"])), ""),
        "profiles": max(profiles, default=0),
        "whole": [r for r in whole if r["benchmark"] != HARMLESS and not of_quality(r["metric"])],
        "costs": [r for r in paid if not r["metric"].startswith(COHERENT)],
        "categories": sorted(parts, key=lambda r: r["p"])[:40],
        "guards": [g | {"learned": by_harm.get((g["benchmark"], g["category"]))} for g in found],
    }
