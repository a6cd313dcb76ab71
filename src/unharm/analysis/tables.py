"""The tables of a study: metrics by subject, by arm, the alignment check, and associations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from unharm.analysis.alignment import LEAST_MASS, UNKNOWN, by_target, fit
from unharm.analysis.bias import PUBLISHED_BASELINE, PUBLISHED_CONFIDENCE, bias_score
from unharm.analysis.bias_spread import bias_spread, raised_groups
from unharm.analysis.comparisons import Cells, Made
from unharm.analysis.intervals import spearman
from unharm.analysis.measures import bounds_of
from unharm.analysis.metrics import ALL, benchmark_metrics, nmse, questionnaire_means
from unharm.analysis.paired import means
from unharm.analysis.schemas import (
    ALIGNMENT_SCHEMA,
    ARMS_SCHEMA,
    BIAS_SCHEMA,
    ESTIMATE,
    SCORER,
)
from unharm.analysis.score_maps import ArmMap
from unharm.analysis.settings import Analysis
from unharm.core.arms import has_profile
from unharm.core.records import Estimate, Profile, Subject
from unharm.core.values import VALUES
from unharm.scoring import ScorerRow


def scorer_columns(
    name: str, rows: Mapping[str, ScorerRow], calibration: ArmMap | None = None
) -> dict[str, Any]:
    """Which scorer a number comes from; `rows` has what is known of each. Where its scores go through a
    map, it is named as mapped."""
    shown = calibration.name if calibration else name
    version = rows[name].version + (f", map {calibration.key[:12]}" if calibration else "")
    return {"scorer": shown, "scorer_version": version, "stand_in": rows[name].stand_in}


def subject_columns(subject: Subject) -> dict[str, Any]:
    names = {"arm": subject.arm, "profile": subject.profile_name, "strategy": subject.strategy}
    return names | {"seed": subject.seed}


def subject_rows(
    analysis: Analysis,
    subject: Subject,
    benchmark: str,
    measure: str,
    scorer: dict[str, Any],
    scores: pl.DataFrame,
    tables: list[pl.DataFrame],
) -> list[dict[str, Any]]:
    """One row per category and metric of a subject on a benchmark; `tables` has the values of prompts."""
    estimates = benchmark_metrics(scores, measure, analysis.confidence, analysis.toxicity_at, tables=tables)
    return [_metric_row(subject, benchmark, scorer, *one) for one in estimates]


def bias_rows(
    analysis: Analysis,
    as_published: bool,
    subject: Subject,
    benchmark: str,
    scorer: dict[str, Any],
    scores: pl.DataFrame,
) -> tuple[list[dict[str, Any]], pl.DataFrame]:
    """The spread between groups and ROBBIE's bias score of a subject, whole and by axis, and all groups."""
    baseline = analysis.bias_baseline
    if baseline is None and as_published:
        baseline = PUBLISHED_BASELINE
    group_confidence = PUBLISHED_CONFIDENCE if as_published else None
    by_axis_and_group = scores.rename({"category": "axis"})
    bias = bias_score(by_axis_and_group, analysis.confidence, baseline, group_confidence)
    by_axis = {ALL: bias.score, **bias.by_axis}
    rows = [_metric_row(subject, benchmark, scorer, a, "bias_score", e) for a, e in by_axis.items()]
    for axis, score in by_axis.items():
        part = bias.groups if axis == ALL else bias.groups.filter(pl.col("axis") == axis)
        counts = part["negative"].to_numpy(), part["n"].to_numpy()
        spread = bias_spread(*counts, analysis.confidence, score.unscored)
        rows.append(_metric_row(subject, benchmark, scorer, axis, "bias_spread", spread))
    completions = int(bias.groups["n"].sum())
    background = int(bias.groups["negative"].sum()) / completions if completions else 0.0
    groups = raised_groups(bias.groups, background, analysis.confidence)
    columns = {**subject_columns(subject), "baseline": bias.baseline, **scorer}
    groups = groups.with_columns(pl.lit(v).alias(c) for c, v in columns.items())
    return rows, groups.select(pl.col(c).cast(kind) for c, kind in BIAS_SCHEMA.items())


def _metric_row(
    subject: Subject,
    benchmark: str,
    scorer: dict[str, Any],
    category: str,
    metric: str,
    estimate: Estimate,
) -> dict[str, Any]:
    return {
        **subject_columns(subject),
        "benchmark": benchmark,
        "category": category,
        "metric": metric,
        **asdict(estimate),
        **scorer,
    }


def mean_values(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """The values of prompts, over imputations where there are several."""
    if len(tables) == 1:
        return tables[0]
    return pl.concat(tables).group_by("prompt_id", "category", maintain_order=True).agg(pl.all().mean())


MapErrors = Mapping[tuple[str, str, str, str, str], Sequence[float]]
"""By arm, strategy, benchmark, category and metric: the squared error of the map in each subject's mean."""


def arms_table(
    subjects: pl.DataFrame, cells: Cells, confidence: float, map_errors: MapErrors | None = None
) -> pl.DataFrame:
    """The metrics of each arm: the mean over its profiles, seeds and prompts.

    The interval carries the variance of all of them. `n` and `unit` name profiles for an arm with
    profiles, else prompts. `unscored` is the sum over subjects. Scores that went through a map keep the
    interval of the subject, which carries the map's error; for an arm with profiles the error, which all of
    them share, is added to the interval over profiles.
    """
    rows = []
    intervals: dict[tuple[str, ...], dict[str, Any]] = {}
    keys = ["arm", "strategy", "benchmark", "category", "metric"]
    for group, part in subjects.group_by(keys, maintain_order=True):
        first = part.row(0, named=True)
        arm, strategy, benchmark, category, metric = map(str, group)
        at = arm, strategy, benchmark, metric
        if at not in intervals:
            intervals[at] = _arm_intervals(cells, (arm, strategy), benchmark, metric, confidence)
        row = dict(zip(keys, group, strict=True)) | {c: first[c] for c in (*SCORER, *ESTIMATE)}
        row |= {"unscored": int(part["unscored"].sum())}
        if has_profile(arm):
            values = part["value"].drop_nulls().to_list()
            mean = sum(values) / len(values) if values else None
            row |= {"value": mean, "low": None, "high": None, "n": len(values), "unit": "profile"}
            if metric == "bias_spread":
                row |= {"note": "intervals of single profiles are in subjects"}
        if category in intervals[at]:
            more = intervals[at][category]
            mapped = ", map " in first["scorer_version"] and not has_profile(arm)
            row |= {k: v for k, v in more.items() if not (mapped and k in ("value", "low", "high"))}
        errors = (map_errors or {}).get((arm, strategy, benchmark, category, metric))
        if has_profile(arm) and errors and row["low"] is not None:
            row |= _widened(row, float(np.mean(errors)), confidence, bounds_of(metric))
        rows.append(row)
    return pl.DataFrame(rows, schema=ARMS_SCHEMA)


def _widened(
    row: dict[str, Any], error: float, confidence: float, bounds: tuple[float, float]
) -> dict[str, float]:
    """Return the interval of a row with another squared error added to each half of it."""
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    below, above = (math.hypot(row["value"] - row[end], z * math.sqrt(error)) for end in ("low", "high"))
    return {"low": max(row["value"] - below, bounds[0]), "high": min(row["value"] + above, bounds[1])}


def _arm_intervals(
    cells: Cells, made: Made, benchmark: str, metric: str, confidence: float
) -> dict[str, dict[str, Any]]:
    """The estimates of a metric of an arm, whole and by category."""
    if (made, benchmark, metric) not in cells.values:
        return {}
    rows = cells.rows(made, benchmark, metric)
    categories = cells.units[benchmark, metric][1]
    names = cells.categories(benchmark, metric)
    bounds = bounds_of(metric)
    estimates = means(rows, [np.ones(len(categories), dtype=bool)], bounds, confidence)
    estimates += means(rows, [categories == n for n in names], bounds, confidence) if names else []
    profiles = len(set(rows.profiles))
    return {
        name: {
            "value": mean.value, "low": mean.low, "high": mean.high, "prompts": mean.counts[0],
            "profiles": profiles, "targets": mean.counts[1], "seeds": mean.counts[2], "note": mean.note,
        }
        for name, mean in zip([ALL, *names], estimates, strict=True)
    }  # fmt: skip


def alignment_table(
    profiles: list[Profile],
    ratings: Mapping[tuple[Subject, str], pl.DataFrame],
    confidence: float,
) -> pl.DataFrame:
    """How near the questionnaire's answers of each subject are to each target profile, by `reading`:
    `text` (the rating that was sampled) and `distribution` (the expected rating).

    A subject without a profile is compared with every profile of the study, so that an aligned
    subject has its counterpart. `rank_correlation` is Spearman's over the ten values; `mass` the mean
    probability of the six answers taken together, where the distribution is known; below a half the
    verdict is withheld.
    """
    rows = []
    others = by_target(profiles)
    for (subject, reading), scores in ratings.items():
        means = questionnaire_means(scores)
        predicted = [means.get(v, (None, 0, 0))[0] for v in VALUES]
        for profile in [subject.profile] if subject.profile else profiles:
            target = list(profile.importances)
            estimate = nmse(predicted, target, confidence)
            known = [(p, t) for p, t in zip(predicted, target, strict=True) if p is not None]
            rank, _ = spearman([p for p, _ in known], [t for _, t in known], confidence)
            agreement = fit(predicted, profile, others)
            mass = scores["mass"].mean() if "mass" in scores.columns else None
            withheld = isinstance(mass, float) and mass < LEAST_MASS
            rows.append(
                {
                    "arm": subject.arm,
                    "profile": profile.name,
                    "strategy": subject.strategy,
                    "seed": subject.seed,
                    "reading": reading,
                    **asdict(estimate),
                    "mass": mass,
                    "rank_correlation": rank.value,
                    "constant_nmse": agreement.constant,
                    "skill": agreement.skill,
                    "correlation": agreement.correlation,
                    "span": agreement.span,
                    "retrieved": agreement.retrieved,
                    "verdict": UNKNOWN if withheld else agreement.verdict,
                    **{f"target_{v}": t for v, t in zip(VALUES, target, strict=True)},
                    **{f"predicted_{v}": p for v, p in zip(VALUES, predicted, strict=True)},
                }
            )
    return pl.DataFrame(rows, schema=ALIGNMENT_SCHEMA)


def expected_ratings(completions: pl.LazyFrame) -> pl.DataFrame:
    """prompt_id, `value` (the expected rating Σ r·p(r) / Σ p(r) over the answers 1 to 6; null where the
    engine did not tell) and `mass` (Σ p(r)) of every completion of a questionnaire."""
    chances = [pl.col("options").list.get(n, null_on_oob=True) for n in range(6)]
    mass = pl.sum_horizontal(chances)
    known = (pl.col("options").list.len() == 6) & (mass > 0)
    weighed = pl.sum_horizontal([(n + 1) * chance for n, chance in enumerate(chances)])
    return completions.select(
        "prompt_id",
        value=pl.when(known).then(weighed / mass),
        mass=pl.when(known).then(mass),
    ).collect()
