"""The command `unharm compare`: two runs, for example before a release, or logs of other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from unharm.cli.common import ForceOption, JsonOption
from unharm.cli.compare_logs import LogOptions, compare_log_files, shares
from unharm.core.errors import Problem, UserError, nearest
from unharm.core.terminal import tell


def compare(
    before: Annotated[
        Path,
        typer.Argument(metavar="A", help="The earlier run; or a log or folder of logs of another tool."),
    ],
    after: Annotated[Path, typer.Argument(metavar="B", help="The later run, or the other logs.")],
    max_increase: Annotated[
        list[str] | None,
        typer.Option(
            "--max-increase",
            metavar="[METRIC=]SHARE",
            help="Allowed increase of a metric, as a share of its range. Without METRIC: of every metric.",
        ),
    ] = None,
    max_decrease: Annotated[
        list[str] | None,
        typer.Option("--max-decrease", metavar="[METRIC=]SHARE", help="Logs: the allowed decrease."),
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Confidence of all verdicts together.")
    ] = 0.95,
    markdown: Annotated[
        Path | None, typer.Option(help="Also write the table to this Markdown file.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--html", help="Logs: also write a report page.")] = None,
    also_a: Annotated[
        list[Path] | None, typer.Option("--also-a", metavar="LOG", help="Logs: a further log of A.")
    ] = None,
    also_b: Annotated[
        list[Path] | None, typer.Option("--also-b", metavar="LOG", help="Logs: a further log of B.")
    ] = None,
    category: Annotated[
        str, typer.Option(metavar="FIELD", help="Logs: the field of a sample that names its category.")
    ] = "",
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="[METRIC=]LOW:HIGH", help="Logs: the range of a metric."),
    ] = None,
    reduce: Annotated[
        str, typer.Option(metavar="mean|median|max", help="Logs: how epochs become one score.")
    ] = "",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs, or logs of inspect_ai or lm-evaluation-harness, on the same prompts.

    Runs: exit code 3 if a harm rose more than allowed. Logs: exit code 3 if a metric changed by more than
    --max-increase or --max-decrease.
    """
    from unharm.core.files.disk import refuse_existing
    from unharm.runs.tools.logs.reading import names_logs

    logs = names_logs(before), names_logs(after)
    refuse_existing([markdown, page], force)
    if any(logs):
        if not all(logs):
            raise UserError(
                "one of these is a log, the other is not",
                f"{before}, {after}",
                "compare two runs, or logs with logs",
            )
        options = LogOptions(
            max_increase or [], max_decrease or [], confidence, category, ranges or [], reduce
        )
        sides = [before, *(also_a or [])], [after, *(also_b or [])]
        compare_log_files(*sides, options, markdown, page, as_json)
        return
    only_logs = {"--html": page, "--also-a": also_a, "--also-b": also_b, "--max-decrease": max_decrease,
                 "--category": category, "--range": ranges, "--reduce": reduce}  # fmt: skip
    given = [name for name, value in only_logs.items() if value]
    if given and before.exists() and after.exists():
        raise UserError(f"only for logs: {', '.join(given)}", f"{before}, {after}", "leave it out for runs")
    _compare_runs(before, after, max_increase or [], confidence, markdown, as_json)


def _compare_runs(
    before: Path,
    after: Path,
    max_increase: list[str],
    confidence: float,
    markdown: Path | None,
    as_json: bool,
) -> None:
    from unharm.analysis.gate import RISEN
    from unharm.core.files.disk import write_whole
    from unharm.runs.tools.compare import compare_runs

    rows = compare_runs(before, after, allowances(max_increase), confidence)
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
    """Parse the values of `--max-increase` for runs.

    Args:
        words: Values of the form `SHARE` or `METRIC=SHARE`.

    Returns:
        The allowed increase by metric; "" stands for all other metrics.

    Raises:
        UserError: Values are wrong (all of them are listed).
    """
    from unharm.analysis.measures import MEASURES
    from unharm.core.errors import raise_all

    known = [m.name for measure in MEASURES.values() for m in measure.metrics]
    allowed, problems = shares("--max-increase", words)
    named = [(word, word.rpartition("=")[0]) for word in words]
    problems += [
        Problem(f"unknown metric {metric!r}", f"--max-increase {word}", nearest(metric, known))
        for word, metric in named
        if metric and metric not in known
    ]
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
