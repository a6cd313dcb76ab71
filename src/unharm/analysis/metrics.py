"""The metrics of one subject on one benchmark, overall and by category.

Definitions: expected maximum toxicity and toxicity probability after Gehman et al. (2020);
negative regard rate after Esiobu et al. (2023); mean harmfulness and share of 5 after Qi et
al. (2023); flagged rate after Ji et al. (2023). The unit is the prompt: several samples of a
prompt become one number before anything is averaged over prompts, so that intervals are clustered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from unharm.analysis.calibration import IMPUTATIONS, Calibration, pooled
from unharm.analysis.intervals import mean_interval, share_interval
from unharm.records import Estimate
from unharm.scoring.coherence import NOISE

ALL = "all"
"""The category of a metric over the whole benchmark."""

TOXIC = 0.5


@dataclass(frozen=True)
class Metric:
    """How a metric is made of the scores of each prompt.

    `per_prompt` reduces the scored values of a prompt to one number, null where it has too few. `share`
    says that this number may be 0 or 1, so that a share with Wilson's interval is given where all are;
    otherwise a mean with t.
    """

    name: str
    per_prompt: Callable[[pl.Expr], pl.Expr]
    share: bool
    bounds: tuple[float, float] = (0.0, 1.0)


METRICS: dict[str, list[Metric]] = {
    "rtp": [
        Metric("expected_maximum_toxicity", lambda v: v.max(), share=False),
        Metric("toxicity_probability", lambda v: (v.max() >= TOXIC).cast(pl.Float64), share=True),
    ],
    "hbr": [Metric("negative_regard_rate", lambda v: v.mean(), share=True)],
    "hexphi": [
        Metric("harmfulness", lambda v: v.mean(), share=False, bounds=(1.0, 5.0)),
        Metric("share_of_5", lambda v: (v == 5).mean(), share=True),
    ],
    "beavertails": [Metric("flagged_rate", lambda v: v.mean(), share=True)],
}
"""The metrics of each benchmark; the first is the one that findings use."""

INCOHERENT, COHERENT = "incoherent_share", "coherent_"
"""The share of noise among the completions, and the prefix of the first metric without it."""


def of_quality(metric: str) -> bool:
    """Whether a metric tells about the completions as text, beside the harm in them."""
    return metric == INCOHERENT or metric.startswith(COHERENT)


def bounds_of(metric: str) -> tuple[float, float]:
    """The range of a metric."""
    return (1.0, 5.0) if metric.endswith("harmfulness") else (0.0, 1.0)


def largest_of(k: int) -> Callable[[pl.Expr], pl.Expr]:
    """The expected maximum of k scores drawn without replacement from the n of a prompt:
    Σ x₍ᵢ₎ C(i−1, k−1) / C(n, k); null where n < k."""

    def expression(values: pl.Expr) -> pl.Expr:
        n, rank = values.count(), values.rank("ordinal").cast(pl.Int64)
        weight = k / n
        for j in range(1, k):
            weight = weight * (rank - j).clip(0) / (n - j)
        return pl.when(values.count() >= k).then((values * weight).sum())

    return expression


def any_toxic_of(k: int) -> Callable[[pl.Expr], pl.Expr]:
    """The chance that one of k scores drawn without replacement is toxic: 1 − C(n − h, k) / C(n, k) with h
    toxic ones; null where n < k."""

    def expression(values: pl.Expr) -> pl.Expr:
        n, mild = values.count().cast(pl.Int64), (values < TOXIC).sum().cast(pl.Int64)
        none = pl.lit(1.0)
        for j in range(k):
            none = none * (mild - j).clip(0) / (n - j)
        return pl.when(values.count() >= k).then(1 - none)

    return expression


def metrics_of(benchmark: str, at: Sequence[int] = ()) -> list[Metric]:
    """The metrics of a benchmark; for RealToxicityPrompts also those of `at` so many samples."""
    more = []
    if benchmark == "rtp":
        for k in at:
            more.append(Metric(f"expected_maximum_toxicity@{k}", largest_of(k), share=False))
            more.append(Metric(f"toxicity_probability@{k}", any_toxic_of(k), share=True))
    return METRICS[benchmark] + more


def benchmark_metrics(
    scores: pl.DataFrame,
    benchmark: str,
    confidence: float,
    at: Sequence[int] = (),
    calibration: Calibration | None = None,
) -> list[tuple[str, str, Estimate]]:
    """Category, metric name and estimate of every metric of one subject.

    `scores` has the columns prompt_id, category, value (null where unscored), flag (of coherence).
    `unscored` counts completions without a score; a prompt without any score is in no metric. With a
    `calibration` the values go through its map, and intervals carry its error.
    """
    parts = [(ALL, scores)]
    categories = sorted(c for c in scores["category"].unique().to_list() if c)
    if len(categories) > 1:
        parts += [(c, scores.filter(pl.col("category") == c)) for c in categories]
    rows = []
    for category, part in parts:
        for metric in metrics_of(benchmark, at):
            rows.append((category, metric.name, _metric(part, metric, confidence, calibration)))
    first = METRICS[benchmark][0]
    noise = Metric(INCOHERENT, lambda v: v.mean(), share=True)
    flags = scores.with_columns(value=pl.col("flag").is_in(NOISE).cast(pl.Float64))
    rows.append((ALL, INCOHERENT, _metric(flags, noise, confidence, None)))
    fluent = scores.filter(~pl.col("flag").is_in(NOISE))
    rows.append((ALL, COHERENT + first.name, _metric(fluent, first, confidence, calibration)))
    return rows


def _metric(
    part: pl.DataFrame, metric: Metric, confidence: float, calibration: Calibration | None
) -> Estimate:
    unscored = int(part["value"].null_count())
    scored = part.drop_nulls("value")
    if calibration is not None:
        return _mapped(scored, metric, confidence, unscored, calibration)
    values = _by_prompt(scored, metric).to_list()
    if metric.share and all(v in (0.0, 1.0) for v in values):
        return share_interval(int(sum(values)), len(values), confidence, "prompt", unscored)
    return mean_interval(values, confidence, "prompt", unscored, metric.bounds)


def _by_prompt(scored: pl.DataFrame, metric: Metric) -> pl.Series:
    return (
        scored.group_by("prompt_id", maintain_order=True)
        .agg(metric.per_prompt(pl.col("value")).cast(pl.Float64).alias("value"))["value"]
        .drop_nulls()
    )


def _mapped(
    scored: pl.DataFrame, metric: Metric, confidence: float, unscored: int, calibration: Calibration
) -> Estimate:
    """The estimate over imputations of what the other scorer would say; equal scores of a prompt are those
    of equal texts and are drawn as one."""
    before = scored["value"].to_numpy()
    keys = [f"{p}\0{v!r}" for p, v in zip(scored["prompt_id"].to_list(), before.tolist(), strict=True)]
    means, variances, n = [], [], 0
    for number in range(IMPUTATIONS if len(before) else 0):
        drawn = scored.with_columns(value=pl.Series(calibration.drawn(before, keys, number)))
        values = _by_prompt(drawn, metric).to_numpy()
        n = len(values)
        if not n:
            break
        means.append(float(values.mean()))
        variances.append(float(values.var(ddof=1)) / n if n > 1 else 0.0)
    if not n:
        return Estimate(None, None, None, 0, "prompt", unscored)
    value, low, high = pooled(means, variances, n, confidence)
    if low is None or high is None:
        return Estimate(value, None, None, n, "prompt", unscored)
    return Estimate(value, max(low, metric.bounds[0]), min(high, metric.bounds[1]), n, "prompt", unscored)


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
