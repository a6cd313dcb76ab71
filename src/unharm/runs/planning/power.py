"""What a study of a given size would find: simulated studies with the study's own profiles and prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from unharm.analysis.clustered_ranks import LEAST_TARGETS, associate, least_p
from unharm.analysis.correlations import detectable, highest_correlation
from unharm.analysis.intervals import adjusted, share_interval
from unharm.analysis.measures import FIRST_METRICS, MEASURES, bounds_of
from unharm.analysis.paired import Rows, differences
from unharm.analysis.simulated_study import HIGHEST_RATE, Regime, SimulatedBench, simulate_bench
from unharm.core.arms import has_profile
from unharm.core.errors import Problem, nearest, raise_all
from unharm.core.values import VALUES
from unharm.report.words import is_share, metric_name, signed

if TYPE_CHECKING:
    from unharm.runs.plan import Plan

Array = np.ndarray

EFFECTS = (0.3, 0.4, 0.6)
STUDIES = 20
MOST_PROMPTS = 400
"""Prompts of a benchmark that are simulated; more add next to nothing to profiles."""


@dataclass(frozen=True)
class Assumed:
    """What is assumed of the study: base rates of harm, the share of a profile's deviation that near copies
    have in common, the share of harmful answers without a score, and the judge's sensitivity."""

    base_rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    shared: float = 0.2
    unscored: float = 0.04
    sensitivity: float = 0.9


ASSUMPTIONS = {
    "base": "base_rates",
    "shared": "shared",
    "unscored": "unscored",
    "sensitivity": "sensitivity",
}
"""The names of assumptions on the command line, and their fields."""


def assumed_of(assignments: Sequence[str]) -> Assumed:
    """Return the assumptions with those that were given, such as `base=0.02` and `shared=0.5`.

    Several base rates are given one after another.

    Raises:
        UserError: With every name that is unknown and every number outside of its range.
    """
    problems: list[Problem] = []
    given: dict[str, list[float]] = {}
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name not in ASSUMPTIONS:
            problems.append(
                Problem(f"unknown assumption {name!r}", "--assume", nearest(name, tuple(ASSUMPTIONS)))
            )
            continue
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        above_zero = name in ("base", "sensitivity")
        if not (0 < number <= 1 if above_zero else 0 <= number < 1):
            wanted = "above 0 and at most 1" if above_zero else "from 0 to below 1"
            problems.append(
                Problem(f"{name}={text!r} is not possible", "--assume", f"expected a number {wanted}")
            )
        given.setdefault(name, []).append(number)
    for name, numbers in given.items():
        if name != "base" and len(numbers) > 1:
            problems.append(Problem(f"{name} is given {len(numbers)} times", "--assume", "give it once"))
    if any(number > HIGHEST_RATE for number in given.get("base", [])):
        problems.append(
            Problem(
                "base rates above 0.6 cannot be simulated", "--assume", f"expected at most {HIGHEST_RATE}"
            )
        )
    raise_all(problems)
    fields: dict[str, Any] = {
        ASSUMPTIONS[name]: numbers[0] for name, numbers in given.items() if name != "base"
    }
    if "base" in given:
        fields["base_rates"] = tuple(given["base"])
    return replace(Assumed(), **fields)


def power_of(plan: Plan, assumed: Assumed | None = None) -> dict[str, Any]:
    """The share of planted correlations that would be found, by size and base rate, and the smallest
    difference
    from vanilla that would be, per benchmark. A value is planted in one category of each benchmark."""
    study, assumed = plan.study, assumed or Assumed()
    benches = _benches(plan)
    importances = np.array([p.importances for p in plan.profiles], dtype=float)
    targets = [p.target for p in plan.profiles]
    count = len(set(targets))
    aligned = any(has_profile(arm) for arm in study.arms)
    notes: list[str] = []
    tests = sum(len(b.categories) for b in benches.values()) * len(VALUES)
    least = detectable(importances, count, tests, study.analysis.fdr) if aligned and tests else None
    correlations: list[dict[str, Any]] = []
    if not benches:
        notes.append("no harm benchmark is in this study")
    elif not aligned:
        notes.append("no arm has profiles: nothing is related to values")
    elif least is None:
        notes.append(why_nothing(importances, count, tests, study.analysis.fdr))
    else:
        notes.append(f"{len(importances)} profiles of {count} targets, {tests} tests")
        highest = max(highest_correlation(column) for column in importances.T)
        correlations = [
            _found(importances, targets, benches, r, base, assumed, plan)
            for base in assumed.base_rates
            for r in EFFECTS
            if r <= highest
        ]
    notes.append(
        f"assumed: near copies share {assumed.shared:.0%} of their deviation, {assumed.unscored:.0%} of "
        f"harmful answers stay unscored, the judge sees {assumed.sensitivity:.0%} of the harm"
    )
    some = (importances, targets) if aligned else (importances[:1], targets[:1])
    return {
        "studies": STUDIES,
        "profiles": len(importances),
        "targets": count,
        "tests": tests,
        "detectable": least,
        "notes": notes,
        "correlations": correlations,
        "differences": [
            _least(*some, name, bench, base, assumed, plan)
            for name, bench in benches.items()
            for base in assumed.base_rates
        ],
    }


def why_nothing(importances: Array, targets: int, tests: int, level: float) -> str:
    """Why no correlation over these profiles can be told from chance."""
    n = len(importances)
    if n >= 5 and targets < n and targets < LEAST_TARGETS:
        return f"{n} profiles of {targets} targets are too few targets for any correlation"
    floor = min((least_p(column) for column in importances.T), default=1.0)
    if n >= 5 and floor > level / max(tests, 1):
        return (
            f"{n} profiles with these ties have no order with p below {floor:.2g}: over {tests} tests no "
            "correlation can be told from chance, and all figures are descriptive"
        )
    return f"{n} profiles are too few for any correlation"


def _benches(plan: Plan) -> dict[str, SimulatedBench]:
    """The study's benchmarks as they are simulated: their categories, at most MOST_PROMPTS prompts."""
    benches = {}
    for name in plan.study.benchmarks.chosen():
        measure = plan.measure(name)
        if measure in MEASURES and MEASURES[measure].harm:
            counts = Counter(p.category for p in plan.prompts[name].prompts)
            share = min(1.0, MOST_PROMPTS / sum(counts.values()))
            sizes = {c: max(1, round(n * share)) for c, n in counts.items()}
            benches[name] = SimulatedBench("harmfulness" if measure == "harmfulness" else "flagged", sizes)
    return benches


def _regime(base: float, assumed: Assumed) -> Regime:
    return Regime(
        base=base, share=assumed.shared, unscored_harm=assumed.unscored, sensitivity=assumed.sensitivity
    )


def _found(
    importances: Array,
    targets: list[str],
    benches: dict[str, SimulatedBench],
    r: float,
    base: float,
    assumed: Assumed,
    plan: Plan,
) -> dict[str, Any]:
    """The share of planted correlations that the heat map finds."""
    varying = [v for n, v in enumerate(VALUES) if np.ptp(importances[:, n]) > 0]
    planted = {
        (name, next(iter(bench.categories)), varying[place % len(varying)]): r
        for place, (name, bench) in enumerate(benches.items())
    }
    regime = replace(_regime(base, assumed), planted=planted)
    clusters = np.unique(targets, return_inverse=True)[1]
    seed, level = plan.study.seed, plan.study.analysis.fdr
    hits = 0
    for number in range(STUDIES):
        names: list[tuple[str, str]] = []
        columns = []
        for place, (name, bench) in enumerate(benches.items()):
            scores = simulate_bench(importances, targets, name, bench, regime, [seed, number, place])
            for category in bench.categories:
                here = scores.aligned[:, 0, scores.categories == category]
                known = np.isfinite(here)
                columns.append(np.where(known, here, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1))
                names.append((name, category))
        groups = [name for name, _ in names]
        related = associate(importances, np.stack(columns, axis=1), clusters, groups, 0.95, seed)
        known = np.isfinite(related.p)
        p = np.ones_like(related.p)
        p[known] = adjusted(related.p[known].tolist())
        for name, category, value in planted:
            at = VALUES.index(value), names.index((name, category))
            hits += bool(p[at] <= level and related.r[at] > 0)
    estimate = share_interval(hits, STUDIES * len(planted), 0.95, "planted correlation")
    return {
        "r": r, "base": base, "found": estimate.value, "low": estimate.low, "high": estimate.high,
        "n": estimate.n,
    }  # fmt: skip


def _means_of_prompts(scores: Array) -> Array:
    """The mean score of each prompt, of [prompts, samples]; NaN where no sample has a score."""
    counts = np.isfinite(scores).sum(axis=1)
    return np.asarray(np.where(counts > 0, np.nansum(scores, axis=1) / np.maximum(counts, 1), np.nan))


def _least(
    importances: Array,
    targets: list[str],
    name: str,
    bench: SimulatedBench,
    base: float,
    assumed: Assumed,
    plan: Plan,
) -> dict[str, Any]:
    """The smallest difference from vanilla that is found with a chance of 80 %, by the mean error of
    simulated studies."""
    metric = FIRST_METRICS[plan.measure(name)]
    simulated = "harmfulness" if bench.measure == "harmfulness" else "flagged_rate"
    names = tuple(f"{n}" for n in range(len(targets)))
    regime = replace(_regime(base, assumed), vanilla_samples=plan.samples("vanilla", name))
    errors = []
    for number in range(STUDIES // 4):
        seeds = [plan.study.seed, number, 99]
        scores = simulate_bench(importances, targets, name, bench, regime, seeds)
        aligned = Rows(scores.aligned[:, 0], tuple(targets), names, (0,) * len(names))
        vanilla = Rows(_means_of_prompts(scores.vanilla)[None], ("",), ("",), (0,))
        every = np.ones(len(scores.categories), dtype=bool)
        difference = differences(aligned, vanilla, [every], bounds_of(simulated), 0.95)[0]
        if difference.low is not None and difference.high is not None:
            errors.append((difference.high - difference.low) / 2 / stats.norm.ppf(0.975))
    least = float(np.mean(errors)) * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) if errors else None
    share = is_share(metric) or simulated == "flagged_rate"
    low, high = bounds_of(simulated)
    if least is not None and least > (1 - base) * (high - low):
        least = None  # no arm can differ by so much
    shown = "–" if least is None else signed(least, share).lstrip("+") + (" points" if share else "")
    return {
        "benchmark": name, "metric": metric_name(metric), "base": base, "least": shown, "value": least,
    }  # fmt: skip
