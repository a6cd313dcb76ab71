"""A plan as text."""

from __future__ import annotations

from typing import Any

from unharm.runs.planning.services import ServiceUse
from unharm.runs.planning.summary import PlanSummary


def plan_text(summary: PlanSummary) -> str:
    """Return a summary as aligned lines."""
    lines = [
        f"study       {summary.study}",
        f"base        {summary.base}",
        f"arms        {', '.join(summary.arms)}",
        f"strategies  {', '.join(summary.strategies)}",
        f"profiles    {summary.profiles:,}",
        f"subjects    {summary.subjects:,}",
        f"adapters    {summary.adapters:,} to train on {summary.training_examples:,} examples",
        *_seeds(summary),
        "",
    ]
    header = ("benchmark", "prompts", "categories", "samples", "completions", "new tokens ≤", "scorer")
    rows = [header] + [
        (
            row.benchmark,
            f"{row.prompts:,}",
            f"{row.categories:,}",
            f"{row.samples:,}",
            f"{row.completions:,}",
            f"{row.most_new_tokens:,}",
            row.scorer,
        )
        for row in summary.benchmarks
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        first, *middle, last = (
            cell.ljust(w) if i in (0, len(row) - 1) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *middle, last]).rstrip())
    lines += [
        "",
        f"completions {summary.completions:,}, at most {summary.most_new_tokens:,} new tokens "
        f"after about {summary.prompt_tokens:,} prompt tokens",
        f"judge calls {summary.judge_calls:,}" + (" at most" if summary.judge_calls else ""),
        *_services(summary.services),
        f"output      {summary.output}",
    ]
    for size in summary.benchmarks:
        lines += [f"note        {size.benchmark}: {note}" for note in size.notes]
    lines += [f"note        {note}" for note in summary.notes]
    return "\n".join(lines)


def _seeds(summary: PlanSummary) -> list[str]:
    """Return the training seeds as a line, if the study names them."""
    if not summary.seeds:
        return []
    some = summary.seeded_profiles
    only = f", all of them for {some:,} of the profiles" if 0 < some < summary.profiles else ""
    return [f"seeds       {', '.join(map(str, summary.seeds))}{only}"]


def _services(rows: list[ServiceUse]) -> list[str]:
    """Return the calls, tokens and cost of each service as lines."""
    lines = []
    for row in rows:
        parts = [f"{row.calls:,} calls"]
        if row.sent_tokens:
            parts.append(f"about {row.sent_tokens:,} tokens sent, {row.received_tokens:,} received")
            cost = row.cost
            parts.append("cost unknown (give price)" if cost is None else f"about {cost:,.2f}")
        if row.hours is not None:
            parts.append(f"{row.hours:,.1f} h at its rate")
        lines.append(f"            {row.benchmark} by {row.scorer}: {', '.join(parts)}")
    costs = [row.cost for row in rows if row.cost is not None]
    if costs:
        lines.append(f"money       about {sum(costs):,.2f}; less where texts repeat; half by batch files")
    return lines


def power_text(power: dict[str, Any] | None) -> str:
    """Return the power of a study as text."""
    if power is None:
        return ""
    lines = [
        "",
        "",
        f"power       by {power['studies']} simulated studies of this size; their variances are guesses",
    ]
    lines += [f"            {note}" for note in power["notes"]]
    for row in power["correlations"]:
        shown = f"{100 * row['found']:.0f} % found ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
        lines.append(
            f"            harm in {row['base']:.0%}, correlation with a value |r| = {row['r']:.1f}: {shown}"
        )
    for row in power["differences"]:
        place = f"            {row['benchmark']}, harm in {row['base']:.0%}: "
        if row["value"] is None:
            lines.append(f"{place}no possible difference from vanilla in {row['metric']} would be found")
            continue
        lines.append(
            f"{place}a difference from vanilla of "
            f"{row['least']} in {row['metric']} would be found with a chance of 80 %"
        )
    return "\n".join(lines)
