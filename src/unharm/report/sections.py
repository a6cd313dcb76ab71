"""Prepares sections of the page from the stored tables."""

from __future__ import annotations

from typing import Any

import polars as pl

from unharm.analysis.measures import COHERENT, FIRST_METRICS, INCOHERENT, LENGTH, of_quality
from unharm.analysis.metrics import ALL
from unharm.benchmarks.registry import HARMLESS
from unharm.core.arms import MATCHED_CONTROLS, VIM_STAGES, WRONG_VALUE, has_profile
from unharm.core.values import VALUES
from unharm.report.inputs import MitigationResult, ReportedStudy
from unharm.report.words import difference_interval, is_share, metric_name, signed

BETWEEN_STRATEGIES = ("controls", "between strategies")
"""The families of tests of guards against controls and against each other."""

VERDICTS = ("supported", "contradicted", "not shown", "not tested")


def comparisons(table: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Group the comparisons of harms.

    Returns:
        `vanilla` (arms against vanilla), `others` (between other arms), `strategies` (against the first
        strategy), `between` (guards against controls and each other), and by category the 40 rows with
        the smallest p: `categories` between arms, `mitigated` between strategies.
    """
    rows = [r for r in table.to_dicts() if not of_quality(r["metric"])]
    whole = [r for r in rows if r["category"] == ALL]
    parts = [r for r in rows if r["category"] != ALL and r["p"] is not None]
    return {
        "vanilla": [r for r in whole if r["kind"] == "arms" and r["reference"] == "vanilla"],
        "others": [r for r in whole if r["kind"] == "arms" and r["reference"] != "vanilla"],
        "strategies": [r for r in whole if r["family"] == "strategies"],
        "between": [r for r in whole if r["family"] in BETWEEN_STRATEGIES],
        "categories": sorted((r for r in parts if r["kind"] == "arms"), key=lambda r: r["p"])[:40],
        "mitigated": sorted((r for r in parts if r["kind"] == "strategies"), key=lambda r: r["p"])[:40],
    }


def significant(rows: list[dict[str, Any]], level: float) -> list[dict[str, Any]]:
    """Return the rows with an adjusted p of at most `level`, the smallest p first."""
    selected = [r for r in rows if r["p_adjusted"] is not None and r["p_adjusted"] <= level]
    return sorted(selected, key=lambda r: r["p_adjusted"])


def hypotheses(table: pl.DataFrame) -> dict[str, Any]:
    """Return the judged hypotheses, ordered by verdict, and the number of hypotheses with each verdict."""
    rows = sorted(table.to_dicts(), key=lambda r: VERDICTS.index(r["verdict"]))
    counts = {v: sum(r["verdict"] == v for r in rows) for v in VERDICTS}
    return {"rows": rows, "counts": {v: n for v, n in counts.items() if n}}


def detectable_effects(associations: pl.DataFrame, study: ReportedStudy) -> dict[str, str]:
    """For each heat map a sentence on what its profiles could show at all."""
    sentences = {}
    for (arm, strategy), part in associations.group_by(["arm", "strategy"], maintain_order=True):
        tests, n = part["p"].count(), max(part["n"].to_list(), default=0)
        targets = max(part["targets"].drop_nulls().to_list(), default=n)
        floor = min(part.drop_nulls("p")["least_p"].to_list(), default=1.0)
        copies = f"{n} profiles are near copies of {targets} targets" if targets < n else f"{n} profiles"
        if not tests:
            text = f"{copies}: no correlation can be told from chance; the figures are descriptive."
        elif floor > study.analysis.fdr / tests:
            text = (
                f"{copies}, and with their ties no p can lie below {floor:.2g}: a single correlation "
                f"cannot be told from chance over {tests} tests. The figures are descriptive."
            )
        else:
            text = (
                f"{copies}, {tests} tests. What near copies share is weighted down. 'unharm plan --power' "
                "says how often a correlation of a given size would be found at these base rates of harm."
            )
        sentences[f"{arm} · {strategy}"] = text
    return sentences


def axes(regressions: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the regressions on the axes for the first value-injected arm, the smallest p first."""
    rows = [r for r in regressions.to_dicts() if r["model"] == "axes" and r["p"] is not None]
    arms = sorted({r["arm"] for r in rows}, key=lambda arm: (arm not in VIM_STAGES, arm))
    return sorted((r for r in rows if r["arm"] == arms[0]), key=lambda r: r["p"])[:12] if arms else []


def value_shifts(table: pl.DataFrame, study: ReportedStudy) -> list[dict[str, Any]]:
    """Return the shift of each value's rating by arm, for profiles with a higher and a lower target."""
    shifts = []
    shift_rows = table.filter(pl.col("strategy") == study.strategies[0])
    for arm in study.arms:
        text = shift_rows.filter((pl.col("arm") == arm) & (pl.col("reading") == "text"))
        part = text if text["value"].count() else shift_rows.filter(
            (pl.col("arm") == arm) & (pl.col("reading") == "distribution")
        )  # fmt: skip
        rows = {(r["schwartz_value"], r["aim"]): r for r in part.to_dicts()}
        if rows:
            values = [{"value": v, "up": rows[v, "up"], "down": rows[v, "down"]} for v in VALUES]
            shifts.append({"arm": arm, "reading": part["reading"][0], "rows": values})
    return shifts


def mitigation(result: MitigationResult | None) -> dict[str, Any] | None:
    """Prepare the section on mitigation; None if there is no result.

    Returns:
        Comparisons of strategies on the second half with the first strategy (`whole`, `categories`), of
        guards with controls and each other (`between`, `controls`), their `costs`, the `guards` with the
        value that was learned for each, and `sentences` on what the controls show.
    """
    if result is None:
        return None
    by_harm = {(row["benchmark"], row["category"]): row for row in result.learned}
    rows = [r for r in result.comparisons.to_dicts() if r["kind"] == "strategies"]
    whole = [r for r in rows if r["category"] == ALL]
    harm_rows = [r for r in whole if r["benchmark"] != HARMLESS and not of_quality(r["metric"])]
    costs = [r for r in whole if r["metric"] in (INCOHERENT, LENGTH) or r["benchmark"] == HARMLESS]
    costs = [r for r in costs if r["family"] not in BETWEEN_STRATEGIES]
    parts = [r for r in rows if r["category"] != ALL and r["p"] is not None]
    profiles = {r["profiles"] for r in whole if has_profile(r["arm"])}
    return {
        "arm": next((r["arm"] for r in whole if has_profile(r["arm"])), ""),
        "profiles": max(profiles, default=0),
        "whole": [r for r in harm_rows if r["family"] == "strategies"],
        "between": [r for r in harm_rows if r["family"] in BETWEEN_STRATEGIES],
        "sentences": _control_sentences(harm_rows),
        "costs": [r for r in costs if not r["metric"].startswith(COHERENT)],
        "categories": _smallest_p(parts, "strategies by category"),
        "controls": _smallest_p(parts, "controls by category"),
        "guards": [g | {"learned": by_harm.get((g["benchmark"], g["category"]))} for g in result.guards],
    }


def _smallest_p(rows: list[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    return sorted((r for r in rows if r["family"] == family), key=lambda r: r["p"])[:40]


def _control_sentences(rows: list[dict[str, Any]]) -> list[str]:
    """Say for each guard of the aligned arm whether it lowers harm more than its control does."""
    sentences = []
    for row in rows:
        control = MATCHED_CONTROLS.get(row["strategy"])
        first = row["metric"] in FIRST_METRICS.values()
        if not first or not has_profile(row["arm"]) or row["reference_strategy"] != control:
            continue
        name, share = metric_name(row["metric"]), is_share(row["metric"])
        change = f"{signed(row['value'], share)}{' points' if share else ''} [{difference_interval(row)}]"
        lower = row["verdict"] == "differs" and row["value"] < 0
        compared = (
            "a wrong value set aside" if control == WRONG_VALUE else "a neutral text of the same length"
        )
        verdict = "lowers" if lower else "is not shown to lower"
        sentences.append(f"{row['strategy']} {verdict} {name} more than {compared}: {change}.")
    return sentences
