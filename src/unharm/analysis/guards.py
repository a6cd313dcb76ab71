"""Guard prompts, guards inside training and early stopping side by side: harm spared, alignment kept.

Every guard of an arm is compared with the arm itself on the same prompts. Profiles and prompts are halved:
a guard is chosen on the first half and tried on the second, whose figures no choice has touched::

    half a    chosen: the lowest harm among guards that keep `analysis.keep_alignment` of the alignment
    half b    the change of harm of each guard, with interval and p, adjusted by Holm over all guards

Early stopping is one guard, whatever number of epochs was kept: the first kept epoch whose adapters have
`analysis.keep_alignment` of the alignment, over the profiles of half a.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.comparisons import Cells
from unharm.analysis.dose import LEAST_FULL, achieved_alignment, preferred_reading
from unharm.analysis.intervals import adjust_rows, holm
from unharm.analysis.measures import FIRST_METRICS, HARM_METRICS, INCOHERENT, bounds_of
from unharm.analysis.paired import Mean, Rows, beside, differences, means
from unharm.analysis.schemas import GUARDS_SCHEMA
from unharm.analysis.settings import Analysis
from unharm.core.arms import CONTROLS, Dose, dose_of, dosed, guard_of, unguarded
from unharm.core.records import Profile

REFERENCE, TRAINING, EARLY_STOP = "none", "training", "early-stop"
PROMPT, CONTROL = "prompt", "control"
REFUSALS = FIRST_METRICS["refusal"]


@dataclass(frozen=True)
class Halves:
    """Which profiles and prompts are in the first half.

    Attributes:
        profiles: Names of profiles.
        prompts: Ids of prompts, by benchmark.
    """

    profiles: frozenset[str]
    prompts: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Guarded:
    """An arm with a guard. `kind` is `none` for the arm itself, `training`, `early-stop`, `prompt` or
    `control`."""

    base: str
    made: tuple[str, str]
    kind: str

    @property
    def guard(self) -> str:
        """The name of the guard: that inside training, the kept epoch (`epoch3`), or the strategy."""
        if self.kind == EARLY_STOP:
            return str(dose_of(self.made[0]))
        return guard_of(self.made[0]) if self.kind == TRAINING else self.made[1]


def guarded_arms(arms: Sequence[str], strategies: Sequence[str]) -> list[Guarded]:
    """Return every arm that has guards inside training or kept epochs, with its guards, its kept epochs in
    rising order, and the study's guard prompts.

    The first strategy is that without a guard prompt.
    """
    first, guards = strategies[0], []
    for base in dict.fromkeys(unguarded(a) for a in arms if guard_of(a) or _kept_epoch(a)):
        if base not in arms:
            continue
        guards.append(Guarded(base, (base, first), REFERENCE))
        inside = [a for a in arms if guard_of(a) and unguarded(a) == base and dose_of(a) is None]
        epochs = sorted(_kept_epoch(a) for a in arms if unguarded(a) == base and not guard_of(a))
        kept = [dosed(base, Dose(epoch=epoch)) for epoch in epochs if epoch]
        guards += [Guarded(base, (a, first), TRAINING) for a in inside]
        guards += [Guarded(base, (a, first), EARLY_STOP) for a in kept]
        guards += [Guarded(base, (base, s), CONTROL if s in CONTROLS else PROMPT) for s in strategies[1:]]
    return guards


def _kept_epoch(arm: str) -> int:
    """Return the epoch of an arm that is a kept epoch, or 0."""
    dose = dose_of(arm)
    return dose.epoch or 0 if dose else 0


def guards_table(
    cells: Cells,
    alignment: pl.DataFrame,
    arms: Sequence[str],
    strategies: Sequence[str],
    profiles: Sequence[Profile],
    halves: Halves,
    analysis: Analysis,
) -> pl.DataFrame:
    """Return the change of harm, the alignment kept and the costs of every guard, on both halves.

    A row per arm, guard, benchmark and half; empty without guards inside training and kept epochs. `front`
    marks guards of a half that no other beats in harm and alignment at once. Controls are never chosen.
    """
    guards = guarded_arms(arms, strategies)
    achieved = achieved_alignment(alignment, profiles)
    rows: list[dict[str, Any]] = []
    for base in dict.fromkeys(g.base for g in guards):
        own = [g for g in guards if g.base == base]
        reading = preferred_reading([g.made for g in own], achieved)
        own = _one_epoch(own, achieved, reading, halves, analysis.keep_alignment)
        for benchmark, metric in cells.units:
            if metric in HARM_METRICS:
                chosen = None
                for half in ("a", "b"):
                    part = _half_rows(cells, own, benchmark, metric, half, halves, analysis)
                    for guard, row in part.items():
                        row |= _alignment_of(guard, own[0], achieved, reading, half, halves)
                    _mark_front(list(part.values()))
                    chosen = _choice(part, analysis.keep_alignment) if half == "a" else chosen
                    for guard, row in part.items():
                        row["chosen"] = guard == chosen
                        rows.append(row)
    for half in ("a", "b"):
        adjust_rows([r for r in rows if r["half"] == half and r["kind"] != REFERENCE], holm)
    return pl.DataFrame(rows, schema=GUARDS_SCHEMA)


def _one_epoch(
    guards: Sequence[Guarded],
    achieved: Mapping[tuple[str, str, str], Mapping[str, float]],
    reading: str,
    halves: Halves,
    share: float,
) -> list[Guarded]:
    """Return the guards with at most one kept epoch: the first that keeps the alignment on half a."""
    stop = next(
        (
            guard
            for guard in guards
            if guard.kind == EARLY_STOP
            and _keeps(_alignment_of(guard, guards[0], achieved, reading, "a", halves), share)
        ),
        None,
    )
    return [guard for guard in guards if guard.kind != EARLY_STOP or guard == stop]


def _keeps(row: Mapping[str, Any], share: float) -> bool:
    return row["share_alignment"] is not None and row["share_alignment"] >= share


def _in_half(name: str, first: frozenset[str], half: str) -> bool:
    return (name in first) == (half == "a")


def _rows_of(
    cells: Cells, guard: Guarded, benchmark: str, metric: str, half: str, halves: Halves
) -> Rows | None:
    """Return the scores of the profiles of a half, or None."""
    if (guard.made, benchmark, metric) not in cells.values:
        return None
    rows = cells.rows(guard.made, benchmark, metric)
    rows = rows.of([name for name in rows.profiles if _in_half(name, halves.profiles, half)])
    return rows if len(rows.values) else None


def _half_rows(
    cells: Cells,
    guards: Sequence[Guarded],
    benchmark: str,
    metric: str,
    half: str,
    halves: Halves,
    analysis: Analysis,
) -> dict[Guarded, dict[str, Any]]:
    """Return harm, its change and the costs of each guard on one half."""
    ids, _ = cells.units[benchmark, metric]
    first = halves.prompts.get(benchmark, frozenset())
    mask = np.array([_in_half(i, first, half) for i in ids], dtype=bool)
    bounds, confidence = bounds_of(metric), analysis.confidence
    reference = _rows_of(cells, guards[0], benchmark, metric, half, halves)
    table: dict[Guarded, dict[str, Any]] = {}
    for guard in guards:
        rows = _rows_of(cells, guard, benchmark, metric, half, halves)
        if rows is None or reference is None or not mask.any():
            continue
        own = means(rows, [mask], bounds, confidence)[0]
        change = differences(rows, reference, [mask], bounds, confidence)[0]
        tested = guard.kind != REFERENCE
        table[guard] = {
            "arm": guard.base, "guard": guard.guard, "kind": guard.kind, "half": half,
            "benchmark": benchmark, "category": "all", "metric": metric, "harm": own.value,
            "value": change.value, "low": change.low if tested else None,
            "high": change.high if tested else None, "n": change.cells, "unit": "profile × prompt",
            "unscored": int((~np.isfinite(rows.values[:, mask])).sum()), "profiles": change.profiles,
            "p": change.p if tested else None, "p_adjusted": None,
            **_cost("refusals", cells, guard, REFUSALS, "", half, halves, confidence),
            **_cost("incoherent", cells, guard, INCOHERENT, benchmark, half, halves, confidence),
            **cells.scorers[benchmark],
        }  # fmt: skip
    return table


def _cost(
    name: str,
    cells: Cells,
    guard: Guarded,
    metric: str,
    benchmark: str,
    half: str,
    halves: Halves,
    confidence: float,
) -> dict[str, float | None]:
    """Return the columns of a cost: its mean over the profiles of a half with its interval.

    It is over all prompts of one benchmark, or of every benchmark that has the metric. Costs choose no
    guard, so that their prompts need no halves.
    """
    places = [b for b, m in cells.units if m == metric and benchmark in ("", b)]
    every = [rows for b in places if (rows := _rows_of(cells, guard, b, metric, half, halves)) is not None]
    cost = Mean(None, None, None, (0, 0, 0), "")
    if every:
        rows = beside(every)
        cost = means(rows, [np.ones(rows.values.shape[1], dtype=bool)], bounds_of(metric), confidence)[0]
    return {name: cost.value, f"{name}_low": cost.low, f"{name}_high": cost.high}


def _alignment_of(
    guard: Guarded,
    reference: Guarded,
    achieved: Mapping[tuple[str, str, str], Mapping[str, float]],
    reading: str,
    half: str,
    halves: Halves,
) -> dict[str, Any]:
    """Return the mean alignment over the profiles of a half, and the share of the arm's own."""

    def of(made: tuple[str, str]) -> float | None:
        by_profile = achieved.get((*made, reading), {})
        known = [x for name, x in by_profile.items() if _in_half(name, halves.profiles, half)]
        return mean(known) if known else None

    part, whole = of(guard.made), of(reference.made)
    kept = part / whole if part is not None and whole is not None and whole > LEAST_FULL else None
    return {"alignment": part, "share_alignment": kept, "reading": reading}


def _mark_front(rows: list[dict[str, Any]]) -> None:
    """Mark the rows that no other row beats: none has less harm and as much alignment, or the reverse."""

    def beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
        no_worse = one["harm"] <= other["harm"] and one["alignment"] >= other["alignment"]
        better = one["harm"] < other["harm"] or one["alignment"] > other["alignment"]
        return bool(no_worse and better)

    known = [r for r in rows if r["harm"] is not None and r["alignment"] is not None]
    for row in rows:
        row["front"] = not any(beats(other, row) for other in known) if row in known else None


def _choice(rows: Mapping[Guarded, dict[str, Any]], share: float) -> Guarded | None:
    """Return the guard with the lowest harm among those that keep the share of the alignment."""
    fitting = {
        guard: row["harm"]
        for guard, row in rows.items()
        if guard.kind not in (REFERENCE, CONTROL) and row["harm"] is not None and _keeps(row, share)
    }
    return min(fitting, key=lambda guard: fitting[guard]) if fitting else None
