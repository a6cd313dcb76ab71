"""Harm against achieved alignment, for every dose of every arm.

A dose is an epoch that was kept, a factor of the adapter, or profiles whose importances are drawn towards
their mean. What a dose does is measured, not read off its nominal size: `alignment` is how far the ratings
of the questionnaire moved from vanilla's along the profile, both less their own mean::

    target t, vanilla's ratings v, the arm's ratings a, each less its mean over the ten values
    alignment = (a - v) · t / (t · t)        0: as vanilla; 1: moved by the whole profile

For a profile of strength s, t is that of the full profile, so that all doses share one scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.comparisons import Cells
from unharm.analysis.intervals import mean_interval
from unharm.analysis.measures import bounds_of, of_quality
from unharm.analysis.over_seeds import alignment_over_seeds
from unharm.analysis.paired import Rows, differences, means
from unharm.analysis.schemas import DOSE_SCHEMA
from unharm.analysis.settings import Analysis
from unharm.core.arms import dose_of, full_arm
from unharm.core.records import Estimate, Profile
from unharm.core.values import VALUES

FULL, EPOCH, SCALE, STRENGTH, NONE = "full", "epoch", "scale", "strength", "none"
EARLIEST = "earliest"
"""The mark of the first kept epoch that keeps the stated share of the alignment."""
LEAST_FULL = 0.02
"""A full dose that moves ratings by less than this share of a profile has no alignment to keep."""


@dataclass(frozen=True)
class DosedArm:
    """One dose of an arm.

    Attributes:
        arm: The full arm.
        made: The arm of its subjects: that of the dose.
        kind: `full`, `epoch`, `scale`, `strength`, or `none` for vanilla.
        level: The epoch, the factor or the strength; 1 for the full dose, 0 for vanilla.
        profiles: Names of its profiles; None for all of the arm.
    """

    arm: str
    made: str
    kind: str
    level: float
    profiles: tuple[str, ...] | None = None

    def rows(self, cells: Cells, strategy: str, benchmark: str, metric: str) -> Rows | None:
        """Return its scores, or None if it has none."""
        made = self.made, strategy
        if (made, benchmark, metric) not in cells.values:
            return None
        rows = cells.rows(made, benchmark, metric)
        rows = rows if self.profiles is None else rows.of(self.profiles)
        return rows if len(rows.values) else None


def dosed_arms(
    arms: Sequence[str], profiles: Sequence[Profile], with_profiles: Sequence[str]
) -> list[DosedArm]:
    """Return every dose of the arms that have several, each arm's in rising order and the full dose last.

    Args:
        arms: The arms of the study.
        profiles: Its profiles.
        with_profiles: The arms that have profiles.
    """
    strengths = sorted({p.strength for p in profiles} - {1.0})
    by_strength = {s: tuple(p.name for p in profiles if p.strength == s) for s in (*strengths, 1.0)}
    doses = []
    for arm in dict.fromkeys(full_arm(a) for a in arms):
        several = strengths if arm in with_profiles else []
        names = by_strength[1.0] if several else None
        parts = [(a, dose) for a in arms if full_arm(a) == arm and (dose := dose_of(a)) is not None]
        epochs = sorted((d.epoch, a) for a, d in parts if d.epoch is not None)
        scales = sorted((d.scale, a) for a, d in parts if d.scale is not None)
        own = [DosedArm(arm, a, EPOCH, float(n), names) for n, a in epochs]
        own += [DosedArm(arm, a, SCALE, x, names) for x, a in scales]
        own += [DosedArm(arm, arm, STRENGTH, s, by_strength[s]) for s in several if arm in arms]
        if own:
            doses += own
            doses += [DosedArm(arm, arm, FULL, 1.0, names)] if arm in arms else []
    return doses


def achieved_alignment(
    alignment: pl.DataFrame, profiles: Sequence[Profile]
) -> dict[tuple[str, str, str], dict[str, float]]:
    """Return the alignment of each profile by arm, strategy and reading.

    A subject without all ten ratings, or without vanilla's, has none.
    """
    strength = {p.name: p.strength for p in profiles}
    rows = alignment_over_seeds(alignment).to_dicts()
    vanilla = {(r["strategy"], r["reading"]): _ratings(r) for r in rows if r["arm"] == "vanilla"}
    achieved: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        before, now = vanilla.get((row["strategy"], row["reading"])), _ratings(row)
        if row["arm"] == "vanilla" or before is None or now is None:
            continue
        target = _centred([row[f"target_{v}"] for v in VALUES]) / strength.get(row["profile"], 1.0)
        size = float(target @ target)
        if size > 1e-9:
            by_profile = achieved.setdefault((row["arm"], row["strategy"], row["reading"]), {})
            by_profile[row["profile"]] = float((now - before) @ target) / size
    return achieved


def _ratings(row: Mapping[str, Any]) -> np.ndarray | None:
    ratings = [row[f"predicted_{v}"] for v in VALUES]
    return None if any(r is None for r in ratings) else _centred(ratings)


def _centred(numbers: Sequence[float]) -> np.ndarray:
    array: np.ndarray = np.asarray(numbers, dtype=float)
    centred: np.ndarray = array - array.mean()
    return centred


def dose_table(
    cells: Cells,
    alignment: pl.DataFrame,
    arms: Sequence[str],
    with_profiles: Sequence[str],
    strategies: Sequence[str],
    profiles: Sequence[Profile],
    analysis: Analysis,
) -> pl.DataFrame:
    """Return harm and alignment of every dose, by strategy, benchmark and metric; empty without doses.

    `value` is the mean of the metric with its interval, `excess` its difference from vanilla on the same
    prompts. `alignment` is the mean over the targets of the profiles. `share_alignment` and `share_excess`
    are parts of those of the full dose. `mark` is `earliest` at the first kept epoch that keeps
    `analysis.keep_alignment` of the full alignment; it is chosen by alignment alone, not by harm.
    """
    doses = dosed_arms(arms, profiles, with_profiles)
    if not doses:
        return pl.DataFrame(schema=DOSE_SCHEMA)
    achieved = achieved_alignment(alignment, profiles)
    rows: list[dict[str, Any]] = []
    for strategy in strategies:
        aligned = dict(_alignments(doses, achieved, strategy, profiles, analysis.confidence))
        marks = _earliest(doses, aligned, analysis.keep_alignment)
        for benchmark, metric in cells.units:
            if of_quality(metric):
                continue
            vanilla = DosedArm("vanilla", "vanilla", NONE, 0.0)
            base = vanilla.rows(cells, strategy, benchmark, metric)
            place = {"strategy": strategy, "benchmark": benchmark, "metric": metric}
            place |= {"category": "all", **cells.scorers[benchmark]}
            if base is not None:
                own = _harm(base, None, metric, analysis.confidence)
                rows.append(
                    place
                    | {"arm": "vanilla", "kind": NONE, "level": 0.0, "mark": "", "alignment": 0.0}
                    | own
                )
            harms = {
                dose: _harm(scores, base, metric, analysis.confidence)
                for dose in doses
                if (scores := dose.rows(cells, strategy, benchmark, metric)) is not None
            }
            excesses = {dose: harm["excess"] for dose, harm in harms.items()}
            for dose, harm in harms.items():
                row = place | {"arm": dose.arm, "kind": dose.kind, "level": dose.level} | harm
                row |= _aligned(aligned.get(dose)) | _shares(dose, doses, aligned, excesses)
                rows.append(row | {"mark": marks.get(dose, "")})
    return pl.DataFrame(rows, schema=DOSE_SCHEMA)


def _harm(rows: Rows, base: Rows | None, metric: str, confidence: float) -> dict[str, Any]:
    """Return the mean of a metric and its difference from vanilla."""
    every, bounds = [np.ones(rows.values.shape[1], dtype=bool)], bounds_of(metric)
    own = means(rows, every, bounds, confidence)[0]
    profiles = len({name for name in rows.profiles if name})
    numbers: dict[str, Any] = {
        "value": own.value, "low": own.low, "high": own.high, "n": profiles or own.counts[0],
        "unit": "profile" if profiles else "prompt",
        "unscored": int((~np.isfinite(rows.values)).sum()), "note": own.note,
    }  # fmt: skip
    if base is None:
        return numbers | {"excess": None, "excess_low": None, "excess_high": None}
    change = differences(rows, base, every, bounds, confidence)[0]
    return numbers | {"excess": change.value, "excess_low": change.low, "excess_high": change.high}


def _alignments(
    doses: Sequence[DosedArm],
    achieved: Mapping[tuple[str, str, str], Mapping[str, float]],
    strategy: str,
    profiles: Sequence[Profile],
    confidence: float,
) -> Iterator[tuple[DosedArm, tuple[str, Estimate]]]:
    """Yield the reading and the alignment of each dose: the mean over targets of their profiles' mean.

    All doses of an arm are read the same way: from the sampled text where each has ratings in it, else from
    the distribution over the answers.
    """
    target = {p.name: p.target for p in profiles}
    for arm in dict.fromkeys(dose.arm for dose in doses):
        own = [dose for dose in doses if dose.arm == arm]
        reading = preferred_reading([(dose.made, strategy) for dose in own], achieved)
        for dose in own:
            numbers = _of_dose(dose, achieved.get((dose.made, strategy, reading), {}))
            by_target: dict[str, list[float]] = {}
            for name, number in numbers.items():
                by_target.setdefault(target.get(name, name), []).append(number)
            if by_target:
                yield (
                    dose,
                    (reading, mean_interval([mean(x) for x in by_target.values()], confidence, "target")),
                )


def preferred_reading(
    made: Sequence[tuple[str, str]], achieved: Mapping[tuple[str, str, str], Mapping[str, float]]
) -> str:
    """Return how to read the ratings of some arms and strategies alike: from the sampled text where each
    has ratings in it, else from the distribution over the answers."""
    in_text = all(achieved.get((arm, strategy, "text")) for arm, strategy in made)
    return "text" if in_text else "distribution"


def _of_dose(dose: DosedArm, by_profile: Mapping[str, float]) -> dict[str, float]:
    return {n: x for n, x in by_profile.items() if dose.profiles is None or n in dose.profiles}


def _aligned(known: tuple[str, Estimate] | None) -> dict[str, Any]:
    """Return the columns of an alignment."""
    if known is None:
        return {}
    reading, estimate = known
    return {
        "alignment": estimate.value, "alignment_low": estimate.low, "alignment_high": estimate.high,
        "alignment_n": estimate.n, "reading": reading,
    }  # fmt: skip


def _full_of(dose: DosedArm, doses: Sequence[DosedArm]) -> DosedArm | None:
    return next((d for d in doses if d.arm == dose.arm and d.kind == FULL), None)


def _shares(
    dose: DosedArm,
    doses: Sequence[DosedArm],
    aligned: Mapping[DosedArm, tuple[str, Estimate]],
    excesses: Mapping[DosedArm, float | None],
) -> dict[str, float | None]:
    """Return which part of the full dose's alignment, and of its harm beyond vanilla, a dose has.

    There is no part of an alignment or of an excess that is not above 0.
    """
    full = _full_of(dose, doses)
    if full is None:
        return {"share_alignment": None, "share_excess": None}
    excess, of_full = excesses.get(dose), excesses.get(full)
    return {
        "share_alignment": _alignment_share(dose, full, aligned),
        "share_excess": excess / of_full if excess is not None and of_full and of_full > 0 else None,
    }


def _alignment_share(
    dose: DosedArm, full: DosedArm, aligned: Mapping[DosedArm, tuple[str, Estimate]]
) -> float | None:
    if dose not in aligned or full not in aligned:
        return None
    part, whole = aligned[dose][1].value, aligned[full][1].value
    return part / whole if part is not None and whole is not None and whole > LEAST_FULL else None


def _earliest(
    doses: Sequence[DosedArm], aligned: Mapping[DosedArm, tuple[str, Estimate]], share: float
) -> dict[DosedArm, str]:
    """Return the mark of the first kept epoch of each arm that keeps `share` of the full alignment."""
    marks: dict[str, DosedArm] = {}
    for dose in doses:
        full = _full_of(dose, doses)
        if dose.kind != EPOCH or full is None or dose.arm in marks:
            continue
        part = _alignment_share(dose, full, aligned)
        if part is not None and part >= share:
            marks[dose.arm] = dose
    return dict.fromkeys(marks.values(), EARLIEST)
