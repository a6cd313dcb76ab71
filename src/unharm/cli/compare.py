"""The command `unharm compare`: compares the harms of two runs, for example before a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from unharm.cli.common import JsonOption
from unharm.core.errors import nearest
from unharm.core.terminal import tell


def compare(
    before: Annotated[Path, typer.Argument(metavar="RUN_A", help="The earlier run.")],
    after: Annotated[Path, typer.Argument(metavar="RUN_B", help="The later run.")],
    max_increase: Annotated[
        list[str] | None,
        typer.Option(
            "--max-increase",
            metavar="[METRIC=]SHARE",
            help="Allowed increase of a metric, as a share of its range. Without METRIC: of every metric.",
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Confidence of all verdicts together.")
    ] = 0.95,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the table to this Markdown file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the harms of two runs on the same prompts. Exit code 3 if a harm rose more than allowed."""
    from unharm.analysis.gate import RISEN
    from unharm.core.files.disk import write_whole
    from unharm.runs.tools.compare import compare_runs

    rows = compare_runs(before, after, allowances(max_increase or []), confidence)
    risen = [r for r in rows if r["verdict"] == RISEN]
    text = as_markdown(rows, before, after, confidence)
    if markdown:
        write_whole(markdown, (text + "\n").encode(), "the table")
    if as_json:
        tell(json.dumps({"risen": len(risen), "confidence": confidence, "rows": rows}))
    else:
        tell(text)
    if risen:
        raise typer.Exit(3)


def allowances(words: list[str]) -> dict[str, float]:
    """Parse the values of `--max-increase`.

    Args:
        words: Values of the form `SHARE` or `METRIC=SHARE`.

    Returns:
        The allowed increase by metric; "" stands for all other metrics.

    Raises:
        UserError: Values are wrong (all of them are listed).
    """
    from unharm.analysis.measures import MEASURES
    from unharm.core.errors import Problem, raise_all

    known = [m.name for measure in MEASURES.values() for m in measure.metrics]
    allowed: dict[str, float] = {}
    problems = []
    for word in words:
        metric, _, number = word.rpartition("=")
        try:
            allowed[metric] = float(number)
            valid = 0 <= allowed[metric] <= 1
        except ValueError:
            valid = False
        if not valid:
            problems.append(
                Problem("expected a share from 0 to 1", f"--max-increase {word}", "such as 0.02")
            )
        if metric and metric not in known:
            problems.append(
                Problem(f"unknown metric {metric!r}", f"--max-increase {word}", nearest(metric, known))
            )
    raise_all(problems)
    return allowed


def as_markdown(rows: list[dict[str, Any]], before: Path, after: Path, confidence: float) -> str:
    """Format the rows as a Markdown table: risen metrics first, then those that may have risen."""
    from unharm.analysis.gate import NOTHING, OPEN, RISEN, WITHIN
    from unharm.report.words import category_name, difference_interval, is_share, metric_name, signed

    order = (RISEN, OPEN, NOTHING, WITHIN)
    counts = {verdict: sum(r["verdict"] == verdict for r in rows) for verdict in order}
    lines = [
        f"**{before} → {after}**: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n),
        "",
        "| verdict | arm | metric | category | change | interval | allowed | adjusted p | n |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: (order.index(r["verdict"]), -(r["value"] or 0.0))):
        arm = r["arm"] if r["strategy"] == "input-only" else f"{r['arm']} · {r['strategy']}"
        share = is_share(r["metric"])
        p = "–" if r["p_adjusted"] is None else f"{r['p_adjusted']:.3g}"
        cells = (
            r["verdict"], arm, metric_name(r["metric"]), category_name(r["category"]),
            signed(r["value"], share), difference_interval(r), signed(r["allowed"], share), p,
            f"{r['profiles']} × {r['units']}",
        )  # fmt: skip
        lines.append("| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |")
    lines += [
        "",
        "Paired by profile and prompt; shares in percentage points. Risen: above the allowed increase with "
        f"confidence {confidence:g} (one-sided, Holm over all rows). Not excluded: the interval extends "
        "beyond the allowed increase.",
    ]
    return "\n".join(lines)
