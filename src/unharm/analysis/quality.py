"""How good the scores are: what stayed without one, how far scorers and people agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from unharm.analysis.agreement import (
    agreed,
    alpha,
    by_cluster,
    coincidence_parts,
    correlation,
    interval_alpha,
    interval_parts,
    kappa,
    moment_parts,
    numbered,
    resampled,
    table_parts,
)
from unharm.analysis.intervals import mean_interval, rate_interval
from unharm.analysis.measures import TOXIC
from unharm.core.records import STATUSES, Estimate
from unharm.scoring import ScorerRow
from unharm.scoring.coherence import UNMASKED

Array = np.ndarray
ALL_OF_THEM = "all of them"


def scorer_rows(
    benchmark: str, scored: Mapping[str, pl.DataFrame], scorers: Mapping[str, ScorerRow], confidence: float
) -> list[dict[str, Any]]:
    """What came of the completions of a benchmark under each of its scorers. `scored` has their scores with
    prompt_id and status; the estimate is the share without a score, over prompts."""
    rows = []
    for place, (name, frame) in enumerate(scored.items()):
        counts = dict(frame.group_by("status").len().iter_rows())
        missing = (
            frame.group_by("prompt_id", maintain_order=True)
            .agg((pl.col("status") != "scored").mean().alias("share"))["share"]
            .to_list()
        )
        estimate = rate_interval(missing, confidence, "prompt")
        rows.append(
            {
                "benchmark": benchmark,
                "role": "also" if place else "metrics",
                "completions": frame.height,
                **asdict(estimate),
                **{status: counts.get(status, 0) for status in STATUSES},
                "mean": frame["value"].mean(),
                "unmasked": int((frame["flag"] == UNMASKED).sum()),
                "scorer": name,
                "scorer_version": scorers[name].version,
                "stand_in": scorers[name].stand_in,
            }
        )
    return rows


def agreement_rows(
    benchmark: str,
    scored: Mapping[str, pl.DataFrame],
    scorers: Mapping[str, ScorerRow],
    human_labels: pl.DataFrame | None,
    confidence: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Compare every pair of scorers that measure what the first one does, each with every person, and all.

    `human_labels` has completion_id, rater, value. Only completions that both have scored are compared;
    `unscored` counts those that just one of them has.
    """
    measures = scorers[next(iter(scored))].measures if scored else ""
    names = [name for name in scored if scorers[name].measures == measures]
    frames = {n: scored[n].select("completion_id", "prompt_id", "value") for n in names}
    raters: dict[str, pl.DataFrame] = {}
    if human_labels is not None:
        prompts = pl.concat(list(frames.values())).select("completion_id", "prompt_id").unique()
        for (rater,), part in human_labels.group_by("rater", maintain_order=True):
            joined = part.join(prompts, on="completion_id").select("completion_id", "prompt_id", "value")
            raters[f"person {rater}".strip()] = joined
    every = frames | raters
    rows = []
    for one, other in combinations(every, 2):
        if one in raters and other in raters:
            kind = "people"
        elif other in raters:
            kind = "scorer and person"
        else:
            alike = scorers[one].judge and scorers[one].judge == scorers[other].judge
            kind = "wordings" if alike and scorers[one].rubric != scorers[other].rubric else "scorers"
        both = every[one].join(every[other], on="completion_id", how="inner", suffix="_other")
        pairs = both.drop_nulls(["value", "value_other"])
        left = both.height - pairs.height - both.filter(
            pl.col("value").is_null() & pl.col("value_other").is_null()
        ).height  # fmt: skip
        for measure, estimate, means in _pair(pairs, measures, confidence, seed, left):
            rows.append(
                {"benchmark": benchmark, "kind": kind, "one": one, "other": other, "measure": measure}
                | asdict(estimate)
                | {"mean_one": means[0], "mean_other": means[1]}
            )
    if len(every) >= 2:
        estimate, mean = _together(list(every.values()), measures, confidence, seed)
        rows.append(
            {"benchmark": benchmark, "kind": ALL_OF_THEM, "one": ", ".join(every), "other": ""}
            | {"measure": "krippendorff_alpha", **asdict(estimate)}
            | {"mean_one": mean, "mean_other": None}
        )
    return rows


def _pair(
    pairs: pl.DataFrame, measures: str, confidence: float, seed: int, unscored: int
) -> Iterator[tuple[str, Estimate, tuple[float | None, float | None]]]:
    """The measures of agreement of two scorers, and the mean of each."""
    if not pairs.height:
        yield "agreement", Estimate(None, None, None, 0, "completion", unscored), (None, None)
        return
    clusters = numbered(pairs["prompt_id"])
    one, other = pairs["value"].to_numpy(), pairs["value_other"].to_numpy()
    means = float(one.mean()), float(other.mean())
    n = len(one)
    continuous = measures == "toxicity"
    x, y = (((one >= TOXIC) * 1.0, (other >= TOXIC) * 1.0)) if continuous else (one, other)
    levels = levels_of(measures, x, y)
    sums = by_cluster(clusters, lambda a, b: table_parts(a, b, levels), x, y)
    k = len(levels)
    yield "agreement", resampled(sums, lambda s: agreed(s, k), confidence, seed, n, unscored), means
    name = "weighted_kappa" if k > 2 else "kappa"
    yield name, resampled(sums, lambda s: kappa(s, levels), confidence, seed, n, unscored), means
    ranked = stats.rankdata(one), stats.rankdata(other)
    moments = by_cluster(clusters, moment_parts, *ranked)
    yield "rank_correlation", resampled(moments, correlation, confidence, seed, n, unscored), means
    differences = (
        pairs.group_by("prompt_id", maintain_order=True)
        .agg((pl.col("value_other") - pl.col("value")).mean().alias("d"))["d"]
        .to_list()
    )
    yield "mean_difference", mean_interval(differences, confidence, "prompt", unscored), means


def _together(
    frames: list[pl.DataFrame], measures: str, confidence: float, seed: int
) -> tuple[Estimate, float | None]:
    """Krippendorff's alpha over all scorers and people."""
    wide = frames[0].select("completion_id", "prompt_id", v0="value")
    for place, frame in enumerate(frames[1:], 1):
        more = frame.select("completion_id", "prompt_id", pl.col("value").alias(f"v{place}"))
        wide = wide.join(more, on=["completion_id", "prompt_id"], how="full", coalesce=True)
    columns = [f"v{place}" for place in range(len(frames))]
    wide = wide.filter(pl.sum_horizontal(pl.col(c).is_not_null() for c in columns) >= 2)
    if not wide.height:
        return Estimate(None, None, None, 0, "completion"), None
    values = wide.select(columns).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    clusters = numbered(wide["prompt_id"])
    mean = float(np.nanmean(values))
    if measures == "toxicity":
        sums = by_cluster(clusters, interval_parts, values)
        return resampled(sums, interval_alpha, confidence, seed, len(values)), mean
    levels = levels_of(measures, values[np.isfinite(values)])
    sums = by_cluster(clusters, lambda some: coincidence_parts(some, levels), values)
    ordinal = len(levels) > 2
    return resampled(sums, lambda s: alpha(s, len(levels), ordinal), confidence, seed, len(values)), mean


def levels_of(measures: str, *values: Array) -> Array:
    """All levels of a measure, used or not, and any others among the values."""
    known = [1.0, 2.0, 3.0, 4.0, 5.0] if measures == "harmfulness" else [0.0, 1.0]
    if measures == "rating":
        known = [float(n) for n in range(1, 7)]
    return np.unique(np.concatenate([np.array(known), *values]))
