"""Did a harm rise from one run to another by more than is allowed: a check before a release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unharm.analysis.comparisons import Cells, Made
from unharm.analysis.intervals import adjust_rows, holm
from unharm.analysis.metrics import ALL, METRICS, bounds_of, of_quality
from unharm.analysis.paired import difference
from unharm.errors import Problem, raise_all
from unharm.pipeline import Run

RISEN, OPEN, WITHIN, NOTHING = "risen", "not excluded", "within", "no number"


def check_comparable(before: Run, after: Run) -> None:
    """Raises one `UserError` with everything in which two runs differ that their scores depend on:
    benchmarks, prompts, decoding, scorers, and subjects."""
    problems: list[Problem] = []
    where = f"{before.store.root}, {after.store.root}"

    def differ(what: str, one: object, other: object, todo: str) -> None:
        if one != other:
            problems.append(Problem(f"{what}: {one} and {other}", where, todo))

    chosen = before.study.benchmarks.chosen(), after.study.benchmarks.chosen()
    both = [name for name in chosen[0] if name in chosen[1] and name in METRICS]
    if not both:
        problems.append(Problem("no harm benchmark is in both runs", where, "run the same ones"))
    if not shared(before, after):
        problems.append(Problem("no arm and strategy is in both runs", where, "run the same ones"))
    for name in both:
        fields = ("samples", "max_tokens", "temperature", "top_p", "stop")
        one, other = ({f: getattr(c[name], f) for f in fields} for c in chosen)
        for field in fields:
            differ(f"{name}: {field}", one[field], other[field], "decode both alike")
        rows = (run.plan.scorers[c[name].scorer] for run, c in zip((before, after), chosen, strict=True))
        first, second = (f"{row.version}" for row in rows)
        scorers = f"{chosen[0][name].scorer} {first}", f"{chosen[1][name].scorer} {second}"
        differ(f"{name}: scorer", *scorers, "score one of them again: unharm rescore RUN --scorer …")
        prompts = ([p.text for p in run.plan.prompts[name].prompts] for run in (before, after))
        if len(set(map(tuple, prompts))) > 1:
            problems.append(Problem(f"{name}: other prompts", where, "use the same file and limit"))
    raise_all(problems)


def shared(before: Run, after: Run) -> list[Made]:
    """The arms with strategies of both runs, in the order of the first."""
    there = {(s.arm, s.strategy) for s in after.plan.subjects}
    found = {(s.arm, s.strategy): None for s in before.plan.subjects}
    return [made for made in found if made in there]


def gate(
    before: Cells, after: Cells, made: list[Made], allowed: Mapping[str, float], confidence: float
) -> list[dict[str, Any]]:
    """One row per arm, strategy, metric and category: the change on the same prompts and profiles, and its
    verdict.

    `allowed` has the largest increase per metric, as a share of the metric's range ("" for all others).
    `risen`: the change lies above it with this confidence (one-sided, Holm over all rows); `not excluded`:
    the interval reaches beyond it; `within`: it does not; `no number`: nothing could be compared.
    """
    rows: list[dict[str, Any]] = []
    for one in made:
        for (benchmark, metric), (ids, categories) in before.units.items():
            key = one, benchmark, metric
            if of_quality(metric) or key not in before.values or key not in after.values:
                continue
            d = _change(before, after, one, benchmark, metric, ids)
            low, high = bounds_of(metric)
            margin = allowed.get(metric, allowed.get("", 0.0)) * (high - low)
            names = [ALL]
            if metric == METRICS[benchmark][0].name:
                found = sorted({str(c) for c in categories if c})
                names += found if len(found) > 1 else []
            for name in names:
                here = d if name == ALL else d[:, categories == name]
                told = {"arm": one[0], "strategy": one[1], "benchmark": benchmark, "metric": metric}
                rows.append(
                    told | {"category": name, "allowed": margin} | _judged(here, margin, confidence)
                )
    adjust_rows(rows, holm)
    for row in rows:
        if row["p_adjusted"] is not None and row["p_adjusted"] <= 1 - confidence:
            row["verdict"] = RISEN
    return rows


def _change(
    before: Cells, after: Cells, made: Made, benchmark: str, metric: str, ids: list[str]
) -> np.ndarray:
    """After less before, profiles × units, for the profiles that both have; units joined by their ids."""
    first, second = before.values[made, benchmark, metric], after.values[made, benchmark, metric]
    place = {identity: n for n, identity in enumerate(after.units[benchmark, metric][0])}
    order = [place.get(identity, -1) for identity in ids]
    rows = []
    for name in first:
        if name in second:
            other = np.append(second[name], np.nan)[order].astype(float)
            rows.append(other - first[name].astype(float))
    return np.stack(rows) if rows else np.full((1, len(ids)), np.nan)


def _judged(d: np.ndarray, margin: float, confidence: float) -> dict[str, Any]:
    found = difference(d, confidence)
    row = {
        "value": found.value, "low": found.low, "high": found.high, "profiles": found.profiles,
        "units": found.prompts, "n": found.n, "p": None, "p_adjusted": None,
    }  # fmt: skip
    if found.value is None:
        return row | {"verdict": NOTHING}
    beyond = difference(d - margin, confidence)
    if beyond.p is None or beyond.value is None:  # nothing varies: what is seen is all there is to see
        return row | {"verdict": RISEN if found.value > margin else WITHIN}
    row["p"] = beyond.p / 2 if beyond.value > 0 else 1 - beyond.p / 2
    return row | {"verdict": OPEN if found.high is not None and found.high > margin else WITHIN}
