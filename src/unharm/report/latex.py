"""Tables as papers print them, in LaTeX (booktabs), from the stored tables of a run."""

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
from unharm.report.words import is_share, metric_name, number, p_value, signed, spread

SPECIAL = {"−": "$-$", "†": "$\\dagger$", "×": "$\\times$", "–": "--", "≤": "$\\leq$", "→": "$\\to$"}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    text = text.replace("\\", "\0")
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    text = text.replace("~", "\\textasciitilde{}").replace("^", "\\textasciicircum{}")
    for sign, code in SPECIAL.items():
        text = text.replace(sign, code)
    return text.replace("\0", "\\textbackslash{}")


def table(caption: str, label: str, head: list[str], rows: list[list[str]]) -> str:
    """A table environment; the first column is left-aligned, all others right."""
    lines = [
        "\\begin{table}[t]", "\\centering\\small",
        f"\\caption{{{escaped(caption)}}}", f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", "\\toprule",
        " & ".join(escaped(h) for h in head) + " \\\\", "\\midrule",
        *(" & ".join(escaped(c) for c in row) + " \\\\" for row in rows),
        "\\bottomrule", "\\end{tabular}", "\\end{table}",
    ]  # fmt: skip
    return "\n".join(lines)


def latex(study: ReportedStudy, tables: Mapping[str, pl.DataFrame]) -> str:
    """The arms, their differences from vanilla, values and harms, hypotheses, strategies."""
    mark = " † Stand-in scorers; no measurement of harm." if tables["arms"]["stand_in"].any() else ""
    parts = [
        "% needs \\usepackage{booktabs}",
        _arms(study, tables["arms"], mark),
        _compared(study, tables["comparisons"], "arms", mark),
        _values(study, tables["associations"], mark),
        _hypotheses(tables["hypotheses"], mark),
        _compared(study, tables["comparisons"], "strategies", mark),
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
    return table(f"Harms by arm.{mark}", "arms", ["arm", *map(metric_name, metrics)], rows)


def _compared(study: ReportedStudy, comparisons: pl.DataFrame, kind: str, mark: str) -> str:
    chosen = comparisons.filter((pl.col("kind") == kind) & (pl.col("category") == ALL))
    if kind == "arms":
        first = study.strategies[0]
        chosen = chosen.filter((pl.col("reference") == "vanilla") & (pl.col("strategy") == first))
    rows = []
    for r in chosen.to_dicts():
        if not of_quality(r["metric"]):
            share = is_share(r["metric"])
            what = r["arm"] if kind == "arms" else f"{r['arm']}: {r['strategy']}"
            p = p_value(r["p_adjusted"])
            rows.append([what, metric_name(r["metric"]), signed(r["value"], share), spread(r), p])
    if not rows:
        return ""
    against = "vanilla" if kind == "arms" else study.strategies[0]
    caption = (
        f"Differences from {against} on the same prompts, with {100 * study.analysis.confidence:.0f} % "
        f"intervals; profiles and prompts are crossed random effects; p adjusted by Holm.{mark}"
    )
    head = ["arm" if kind == "arms" else "strategy", "metric", "difference", "interval", "p"]
    return table(caption, f"{kind}-differences", head, rows)


def _values(study: ReportedStudy, associations: pl.DataFrame, mark: str) -> str:
    arms = injected_first(associations["arm"].unique(maintain_order=True).to_list())
    if not arms:
        return ""
    holds = associations.filter((pl.col("arm") == arms[0]) & (pl.col("p_adjusted") <= study.analysis.fdr))
    rows = []
    for value in VALUES:
        mine = holds.filter(pl.col("schwartz_value") == value).sort("p").to_dicts()
        ways = [
            "; ".join(
                f"{harm_name(r['benchmark'], r['category'])} ({r['value']:+.2f})"
                for r in mine
                if (r["value"] > 0) == up
            )
            for up in (True, False)
        ]
        rows.append([value, *(w or "–" for w in ways)])
    caption = (
        f"Harms that go with a value over the profiles of {arms[0]} (Spearman; Benjamini–Hochberg at "
        f"{study.analysis.fdr:g}).{mark}"
    )
    return table(caption, "values", ["value", "goes up with", "goes down with"], rows)


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
    caption = f"Hypotheses stated beforehand (one-sided Spearman, Holm).{mark}"
    return table(caption, "hypotheses", ["value", "harm", "r", "p", "verdict"], rows)
