"""Writes the tables of a run as LaTeX (booktabs), ready for a paper."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from unharm.analysis.measures import of_quality
from unharm.analysis.metrics import ALL
from unharm.core.values import VALUES
from unharm.report.answers import injected_first
from unharm.report.figures import harm_name
from unharm.report.inputs import ReportedStudy
from unharm.report.words import difference_interval, is_share, metric_name, number, p_value, signed

SPECIAL = {"−": "$-$", "†": "$\\dagger$", "×": "$\\times$", "–": "--", "≤": "$\\leq$", "→": "$\\to$"}


def escape_latex(text: str) -> str:
    """Escape text so that LaTeX prints it literally."""
    text = text.replace("\\", "\0")
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    text = text.replace("~", "\\textasciitilde{}").replace("^", "\\textasciicircum{}")
    for sign, code in SPECIAL.items():
        text = text.replace(sign, code)
    return text.replace("\0", "\\textbackslash{}")


def table_environment(caption: str, label: str, head: list[str], rows: list[list[str]]) -> str:
    """Return a table environment. The first column is left-aligned, all others are right-aligned."""
    lines = [
        "\\begin{table}[t]", "\\centering\\small",
        f"\\caption{{{escape_latex(caption)}}}", f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule",
        " & ".join(escape_latex(h) for h in head) + " \\\\", "\\midrule",
        *(" & ".join(escape_latex(c) for c in row) + " \\\\" for row in rows),
        "\\bottomrule", "\\end{tabular}", "\\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


def render_latex(study: ReportedStudy, tables: Mapping[str, pl.DataFrame]) -> str:
    """Return the tables: arms, differences from vanilla, values and harms, hypotheses, strategies."""
    mark = " † Stand-in scorers; not a measurement of harm." if tables["arms"]["stand_in"].any() else ""
    parts = [
        "% needs \\usepackage{booktabs}",
        _arms(study, tables["arms"], mark),
        _comparisons(study, tables["comparisons"], "arms", mark),
        _values(study, tables["associations"], mark),
        _hypotheses(tables["hypotheses"], mark),
        _comparisons(study, tables["comparisons"], "strategies", mark),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _arms(study: ReportedStudy, arms: pl.DataFrame, mark: str) -> str:
    whole = arms.filter((pl.col("category") == ALL) & (pl.col("strategy") == study.strategies[0]))
    metrics = [m for m in whole["metric"].unique(maintain_order=True) if not of_quality(m)]
    cells = {(r["arm"], r["metric"]): r["value"] for r in whole.to_dicts()}
    rows = [
        [arm, *(number(cells.get((arm, m)), is_share(m)) for m in metrics)]
        for arm in study.arms
        if any((arm, m) in cells for m in metrics)
    ]
    if not rows:
        return ""
    return table_environment(f"Harms by arm.{mark}", "arms", ["arm", *map(metric_name, metrics)], rows)


def _comparisons(study: ReportedStudy, comparisons: pl.DataFrame, kind: str, mark: str) -> str:
    selected = comparisons.filter((pl.col("kind") == kind) & (pl.col("category") == ALL))
    if kind == "arms":
        first = study.strategies[0]
        selected = selected.filter((pl.col("reference") == "vanilla") & (pl.col("strategy") == first))
    rows = []
    for r in selected.to_dicts():
        if not of_quality(r["metric"]):
            share = is_share(r["metric"])
            label = r["arm"] if kind == "arms" else f"{r['arm']}: {r['strategy']}"
            p = p_value(r["p_adjusted"])
            rows.append(
                [label, metric_name(r["metric"]), signed(r["value"], share), difference_interval(r), p]
            )
    if not rows:
        return ""
    against = "vanilla" if kind == "arms" else study.strategies[0]
    caption = (
        f"Differences from {against} on the same prompts, with {100 * study.analysis.confidence:.0f} % "
        f"intervals; prompts, targets of profiles and seeds are crossed; score intervals joined by MOVER; "
        f"p adjusted by Holm.{mark}"
    )
    head = ["arm" if kind == "arms" else "strategy", "metric", "difference", "interval", "p"]
    return table_environment(caption, f"{kind}-differences", head, rows)


def _values(study: ReportedStudy, associations: pl.DataFrame, mark: str) -> str:
    arms = injected_first(associations["arm"].unique(maintain_order=True).to_list())
    if not arms:
        return ""
    significant = associations.filter(
        (pl.col("arm") == arms[0]) & (pl.col("p_adjusted") <= study.analysis.fdr)
    )
    rows = []
    for value in VALUES:
        value_rows = significant.filter(pl.col("schwartz_value") == value).sort("p").to_dicts()
        by_sign = [
            "; ".join(
                f"{harm_name(r['benchmark'], r['category'])} ({r['value']:+.2f})"
                for r in value_rows
                if (r["value"] > 0) == positive
            )
            for positive in (True, False)
        ]
        rows.append([value, *(text or "–" for text in by_sign)])
    caption = (
        f"Harms that correlate with a value over the profiles of {arms[0]} (Spearman; Benjamini–Hochberg "
        f"{study.analysis.fdr:g}).{mark}"
    )
    return table_environment(
        caption, "values", ["value", "positive correlation", "negative correlation"], rows
    )


def _hypotheses(hypotheses: pl.DataFrame, mark: str) -> str:
    rows = [
        [
            f"{r['schwartz_value']} ({r['sign']})",
            r["harm"],
            number(r["value"]),
            p_value(r["p_adjusted"]),
            r["verdict"],
        ]
        for r in hypotheses.filter(pl.col("verdict") != "not tested").to_dicts()
    ]
    if not rows:
        return ""
    caption = f"Hypotheses stated beforehand (two-sided, Holm).{mark}"
    return table_environment(caption, "hypotheses", ["value", "harm", "r", "p", "verdict"], rows)
