"""Statistical power of a study, from simulated studies with the same profiles and prompts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy import stats

from unharm.analysis.correlations import detectable, rank_correlations
from unharm.analysis.intervals import adjusted, share_interval
from unharm.analysis.measures import FIRST_METRICS, MEASURES
from unharm.analysis.paired import difference
from unharm.analysis.simulate import Bench, Scale, World, reduced, simulated
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import has_profile
from unharm.core.values import VALUES
from unharm.report.words import is_share, metric_name, signed

if TYPE_CHECKING:
    from unharm.runs.plan import Plan

EFFECTS = (0.2, 0.3, 0.4, 0.5, 0.6)
STUDIES = 40
MAX_PROMPTS = 400
"""Largest number of simulated prompts per benchmark. More change the result very little."""


def power_of(plan: Plan) -> dict[str, Any]:
    """Estimate which effects a study would detect.

    Returns:
        The share of planted correlations that are detected, by their size, and for each benchmark the
        smallest detectable difference from vanilla. One value is planted in one category per benchmark.
    """
    study = plan.study
    benches = _benches(plan)
    importances = np.array([p.importances for p in plan.profiles], dtype=float)
    aligned = any(has_profile(arm) for arm in study.arms)
    notes = []
    correlations = []
    tests = sum(len(b.categories) for b in benches.values()) * len(VALUES)
    least = detectable(len(importances), tests, study.analysis.fdr) if aligned and tests else None
    if not benches:
        notes.append("no harm benchmark is in this study")
    elif not aligned:
        notes.append("no arm has profiles: nothing is related to values")
    elif least is None:
        notes.append(f"{len(importances)} profiles are too few for any correlation")
    else:
        notes.append(
            f"{len(importances)} profiles, {tests} tests: |r| = {least:.2f} alone is found with a "
            "chance of 80 %"
        )
        correlations = [
            _detected_share(importances, benches, r, study.seed, study.analysis.fdr) for r in EFFECTS
        ]
    differences = [
        _least_difference(importances if aligned else importances[:1], n, b, study)
        for n, b in benches.items()
    ]
    return {
        "studies": STUDIES,
        "profiles": len(importances),
        "tests": tests,
        "detectable": least,
        "notes": notes,
        "correlations": correlations,
        "differences": differences,
    }


def _benches(plan: Plan) -> dict[str, Bench]:
    """Return the simulated benchmarks: their categories, with at most MAX_PROMPTS prompts."""
    benches = {}
    for name, spec in plan.study.benchmarks.chosen().items():
        measure = BENCHMARKS[name].measure
        if measure in MEASURES and MEASURES[measure].harm:
            counts = Counter(p.category for p in plan.prompts[name].prompts)
            share = min(1.0, MAX_PROMPTS / sum(counts.values()))
            sizes = {c: max(1, round(n * share)) for c, n in counts.items()}
            benches[name] = Bench(cast(Scale, measure), sizes, spec.samples)
    return benches


def _harms(
    importances: np.ndarray, benches: dict[str, Bench], world: World, seed: int
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Simulate the mean harm by profile and category [profiles, categories]; return it with names."""
    columns, names = [], []
    for place, (name, bench) in enumerate(benches.items()):
        _, aligned, categories = simulated(importances, name, bench, world, 1000 * seed + place)
        values = reduced(aligned, bench.scale)
        for category in bench.categories:
            columns.append(np.nanmean(values[:, categories == category], axis=1))
            names.append((name, category))
    return np.stack(columns, axis=1), names


def _detected_share(
    importances: np.ndarray, benches: dict[str, Bench], r: float, seed: int, level: float
) -> dict[str, Any]:
    """Return the share of planted correlations of size `r` that simulated studies detect."""
    varying = [v for n, v in enumerate(VALUES) if np.ptp(importances[:, n]) > 0]
    planted = {
        (name, next(iter(bench.categories)), varying[place % len(varying)]): r
        for place, (name, bench) in enumerate(benches.items())
    }
    world = World(planted=planted, unscored=0.0)
    hits = 0
    for number in range(STUDIES):
        harms, names = _harms(importances, benches, world, seed + number)
        tested = rank_correlations(importances, harms, 0.95)
        known = np.isfinite(tested.p)
        p = np.ones_like(tested.p)
        p[known] = adjusted(tested.p[known].tolist())
        for name, category, value in planted:
            cell = VALUES.index(value), names.index((name, category))
            hits += bool(p[cell] <= level and tested.r[cell] > 0)
    estimate = share_interval(hits, STUDIES * len(planted), 0.95, "planted correlation")
    return {"r": r, "found": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _least_difference(importances: np.ndarray, name: str, bench: Bench, study: Any) -> dict[str, Any]:
    """Return the smallest difference from vanilla that is detected with a chance of 80 %.

    It is based on the mean standard error of simulated studies.
    """
    errors = []
    for number in range(STUDIES // 2):
        vanilla, aligned, _ = simulated(importances, name, bench, World(unscored=0.0), study.seed + number)
        changed = reduced(aligned, bench.scale) - reduced(vanilla, bench.scale)[None, :]
        estimate = difference(changed, 0.95)
        if estimate.low is not None and estimate.high is not None:
            errors.append((estimate.high - estimate.low) / 2 / stats.norm.ppf(0.975))
    metric = FIRST_METRICS[bench.scale]
    least = float(np.mean(errors)) * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) if errors else None
    unit = " points" if is_share(metric) else ""
    shown = "–" if least is None else signed(least, is_share(metric)).lstrip("+") + unit
    return {"benchmark": name, "metric": metric_name(metric), "least": shown, "value": least}
