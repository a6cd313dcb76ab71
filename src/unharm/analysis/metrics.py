"""The metrics of one subject on one benchmark, overall and by category.

`measures` defines them. The unit is the prompt: several samples of a
prompt become one number before anything is averaged over prompts, so that intervals are clustered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from unharm.analysis.calibration import IMPUTATIONS, pooled
from unharm.analysis.intervals import bounded_interval, mean_interval, rate_interval
from unharm.analysis.measures import (
    ANSWER,
    COHERENT,
    INCOHERENT,
    LENGTH,
    MEASURES,
    Metric,
    bounds_of,
    metrics_of,
)
from unharm.analysis.score_maps import ArmMap
from unharm.core.records import Estimate
from unharm.scoring.coherence import NOISE

ALL = "all"
"""The category of a metric over the whole benchmark."""


def metrics_here(
    scores: pl.DataFrame, measure: str, at: Sequence[int] = (), samples: int | None = None
) -> list[Metric]:
    """The metrics of a measure that some prompt of these scores is for; `samples` as in `metrics_of`."""
    expected = set(_expected(scores))
    return [m for m in metrics_of(measure, at, samples) if not m.expected or m.expected in expected]


def _expected(scores: pl.DataFrame) -> list[str]:
    """What each score's prompt expects of a good model; to be answered, where it does not say."""
    if "expected" not in scores.columns:
        return [ANSWER]
    return [e or ANSWER for e in scores["expected"].fill_null("").unique()]


def _of_prompts(scores: pl.DataFrame, metric: Metric) -> pl.DataFrame:
    """The scores of the prompts that a metric is about."""
    if not metric.expected or "expected" not in scores.columns:
        return scores
    said = pl.col("expected").fill_null("")
    return scores.filter(pl.when(said == "").then(pl.lit(ANSWER)).otherwise(said) == metric.expected)


def prompt_values(
    scores: pl.DataFrame, measure: str, at: Sequence[int] = (), samples: int | None = None
) -> pl.DataFrame:
    """One row per prompt: prompt_id, category, and a column for every metric, null where the prompt has too
    few scores for it or is not one that the metric is about. `scores` is as in `benchmark_metrics`."""
    noise = pl.col("flag").is_in(NOISE)
    known = pl.col("value").drop_nulls()
    first = metrics_of(measure, samples=samples)[0]
    fluent = pl.col("value").filter(~noise).drop_nulls()
    return scores.group_by("prompt_id", "category", maintain_order=True).agg(
        *(_per_prompt(m, m.name, known, scores) for m in metrics_here(scores, measure, at, samples)),
        noise.mean().alias(INCOHERENT),
        _per_prompt(first, COHERENT + first.name, fluent, scores),
        (pl.col("tokens").mean() if "tokens" in scores.columns else pl.lit(None, pl.Float64)).alias(LENGTH),
    )


def _per_prompt(metric: Metric, name: str, values: pl.Expr, scores: pl.DataFrame) -> pl.Expr:
    """A metric of each prompt; null for prompts that it is not about."""
    value = metric.per_prompt(values).cast(pl.Float64)
    if metric.expected and "expected" in scores.columns:
        said = pl.col("expected").first().fill_null("")
        applies = pl.when(said == "").then(pl.lit(ANSWER)).otherwise(said) == metric.expected
        value = pl.when(applies).then(value)
    return value.alias(name)


def imputed_values(
    scores: pl.DataFrame,
    measure: str,
    at: Sequence[int] = (),
    calibration: ArmMap | None = None,
    samples: int | None = None,
) -> list[pl.DataFrame]:
    """`prompt_values` of the scores, or with a `calibration` of every imputation."""
    return [prompt_values(s, measure, at, samples) for s in _imputed(scores, calibration)]


def benchmark_metrics(
    scores: pl.DataFrame,
    measure: str,
    confidence: float,
    at: Sequence[int] = (),
    calibration: ArmMap | None = None,
    tables: list[pl.DataFrame] | None = None,
) -> list[tuple[str, str, Estimate]]:
    """Category, metric name and estimate of every metric of one subject.

    `scores` has the columns prompt_id, category, value (null where unscored), flag (of coherence).
    `unscored` counts completions without a score; a prompt without any score is in no metric. With a
    `calibration` the values go through its map, and intervals carry its error. `tables` are those of
    `imputed_values`, where they are there already.
    """
    tables = tables or imputed_values(scores, measure, at, calibration)
    parts = [ALL, *_categories(scores)]
    missing = dict(scores.group_by("category").agg(pl.col("value").null_count().cast(pl.Int64)).iter_rows())
    rows = []
    first = MEASURES[measure].metrics[0]
    here_metrics = metrics_here(scores, measure, at)
    for category in parts:
        here = [t if category == ALL else t.filter(pl.col("category") == category) for t in tables]
        unscored = sum(missing.values()) if category == ALL else missing[category]
        for metric in here_metrics:
            if metric.expected and "expected" in scores.columns:
                of_metric = _of_prompts(scores, metric)
                of_metric = (
                    of_metric if category == ALL else of_metric.filter(pl.col("category") == category)
                )
                if not of_metric.height:  # no prompt of this category is one that the metric is about
                    continue
                unscored = int(of_metric["value"].null_count())
            rows.append((category, metric.name, _estimate(here, metric, metric.name, confidence, unscored)))
    noise = Metric(INCOHERENT, "", lambda v: v.mean(), share=True)
    rows.append((ALL, INCOHERENT, _estimate(tables[:1], noise, INCOHERENT, confidence, 0)))
    length = Metric(LENGTH, "", lambda v: v.mean(), share=False, bounds=bounds_of(LENGTH))
    rows.append((ALL, LENGTH, _estimate(tables[:1], length, LENGTH, confidence, 0)))
    fluent = scores.filter(~pl.col("flag").is_in(NOISE))
    name, unscored = COHERENT + first.name, int(fluent["value"].null_count())
    rows.append((ALL, name, _estimate(tables, first, name, confidence, unscored)))
    return rows


def _categories(scores: pl.DataFrame) -> list[str]:
    """The categories, where there are several."""
    names = sorted(c for c in scores["category"].unique().to_list() if c)
    return names if len(names) > 1 else []


def _imputed(scores: pl.DataFrame, calibration: ArmMap | None) -> list[pl.DataFrame]:
    """The scores as they are, or so many draws of what another scorer would say; equal scores of a prompt
    are those of equal texts and are drawn as one."""
    if calibration is None:
        return [scores]
    known = pl.col("value").is_not_null()
    scored = scores.filter(known)
    before = scored["value"].to_numpy()
    keys = [f"{p}\0{v!r}" for p, v in zip(scored["prompt_id"].to_list(), before.tolist(), strict=True)]
    rest = scores.filter(~known)
    return [
        pl.concat([scored.with_columns(value=pl.Series(calibration.drawn(before, keys, number))), rest])
        for number in range(IMPUTATIONS)
    ]


def _estimate(
    tables: list[pl.DataFrame], metric: Metric, column: str, confidence: float, unscored: int
) -> Estimate:
    """The estimate over prompts; with several tables by Rubin's rules over the imputations."""
    several = [t[column].drop_nulls().to_numpy() for t in tables]
    n = len(several[0])
    if len(several) == 1:
        values = several[0].tolist()
        if not math.isfinite(metric.bounds[1]):
            return mean_interval(values, confidence, "prompt", unscored, metric.bounds)
        interval = rate_interval if metric.share else bounded_interval
        return interval(values, confidence, "prompt", unscored, metric.bounds)
    if not n:
        return Estimate(None, None, None, 0, "prompt", unscored)
    means = [float(v.mean()) for v in several]
    variances = [float(v.var(ddof=1)) / n if n > 1 else 0.0 for v in several]
    noise = float(np.stack(several).var(axis=0, ddof=1).mean()) / n  # of the draws of a prompt
    value, low, high = pooled(means, variances, n, confidence, noise)
    if low is None or high is None:
        return Estimate(value, None, None, n, "prompt", unscored)
    low, high = max(low, metric.bounds[0]), min(high, metric.bounds[1])
    return Estimate(value, low, high, n, "prompt", unscored)


def map_variances(tables: list[pl.DataFrame]) -> dict[tuple[str, str], float]:
    """Return the squared error that a map brings into each metric's mean, by category and metric.

    It is the variance of the mean between imputations, without that of the draws. Tables are those of
    `imputed_values`; of a single one, which has no map, the result is empty.
    """
    if len(tables) < 2:
        return {}
    errors = {}
    categories = tables[0]["category"]
    for category in [ALL, *_categories(tables[0])]:
        here = [t if category == ALL else t.filter(categories == category) for t in tables]
        for metric in tables[0].columns:
            if metric in ("prompt_id", "category"):
                continue
            values = np.stack([t[metric].drop_nulls().to_numpy() for t in here])
            if values.shape[1] > 1:
                between = float(values.mean(axis=1).var(ddof=1))
                draws = float(values.var(axis=0, ddof=1).mean()) / values.shape[1]
                errors[category, metric] = (1 + 1 / len(here)) * max(0.0, between - draws)
    return errors


def questionnaire_means(scores: pl.DataFrame) -> dict[str, tuple[float | None, int, int]]:
    """Predicted importance of each value: mean of its scored items, their number, and how many
    ratings are unscored. `category` is the value that an item is about."""
    table = scores.group_by("category").agg(
        pl.col("value").mean().alias("mean"),
        pl.col("value").count().alias("n"),
        pl.col("value").null_count().alias("unscored"),
    )
    return {row["category"]: (row["mean"], row["n"], row["unscored"]) for row in table.to_dicts()}


def nmse(predicted: list[float | None], target: list[float], confidence: float) -> Estimate:
    """Normalised mean squared error of ten values, ((p−1)/5 − (t−1)/5)² (Choi et al., 2025).

    0 is perfect, 1 the opposite end everywhere. The unit is the value; a value without a rating
    is left out and counted. Interval: Student's t over the squared errors.
    """
    errors = [((p - t) / 5) ** 2 for p, t in zip(predicted, target, strict=True) if p is not None]
    missing = len(target) - len(errors)
    return mean_interval(errors, confidence, "value", missing, (0.0, 1.0))
