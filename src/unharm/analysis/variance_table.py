"""The table `findings/variance`: what the scores of an arm vary with.

A score of an arm is that of a profile, a training seed and a prompt, the mean over the prompt's samples:

    score = mean + prompt + profile + seed + profile × seed + prompt × model + sample

The components are estimated by the method of moments on the means of prompts, of profiles and of seeds
(analysis of variance of random effects; Searle, Casella and McCulloch, 1992, chapter 4). A component whose
estimate is below zero counts as zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.comparisons import Cells, Made
from unharm.analysis.measures import FIRST_METRICS
from unharm.analysis.paired import Rows
from unharm.analysis.schemas import VARIANCE_SCHEMA
from unharm.analysis.variance import parts_of, summed_rows

Array = np.ndarray
Samples = Mapping[tuple[Made, str], Sequence[float | None]]
"""By arm, strategy and benchmark: the variance that sampling brings to a score, of each subject; None where
it is not known."""

PROMPT, PROFILE, SEED, SAMPLE = "prompt", "profile", "seed", "sample"
BOTH, REST = "profile × seed", "prompt × model"
ONE_SEED = "one training seed: how far another would move the arm is not known"
ONE_SAMPLE = "with what sampling brings: it is not known apart"


@dataclass(frozen=True)
class Component:
    """One source of variance: how many units it has, its variance component, and the reason if there is
    none."""

    source: str
    units: int
    variance: float | None
    note: str = ""


def sample_variance(scores: pl.DataFrame, of_mean: bool) -> float | None:
    """Return the variance that sampling brings to the score of a prompt, the mean over prompts.

    Args:
        scores: Columns prompt_id and value of one subject, null where unscored.
        of_mean: Whether the score of a prompt is the mean of its samples; nothing is known of a maximum.
    """
    known = scores.drop_nulls("value").group_by("prompt_id")
    several = known.agg(of_mean=pl.col("value").var() / pl.len())["of_mean"].drop_nulls()
    mean = several.mean() if of_mean else None
    return float(mean) if isinstance(mean, float) else None


def components(rows: Rows, sampled: float | None, trained: bool) -> list[Component]:
    """Return the variance components of an arm's scores.

    Args:
        rows: Its scores.
        sampled: What sampling brings to a score; None if not known.
        trained: Whether the study trains the arm, so that another seed would give other models.
    """
    values = rows.values.astype(float)
    values = values[:, np.isfinite(values).all(axis=0)] if np.isfinite(values).all(axis=0).any() else values
    by_row, by_prompt = _means(values, 1), _means(values, 0)
    prompts, count = values.shape[1], len(values)
    rest = _left(values)
    of_prompts = _variance(by_prompt) - (rest if count > 1 else sampled or 0.0) / count
    seeds, profiles = len(set(rows.seeds)), len(set(rows.profiles))
    table = _seed_table(rows, by_row)
    found = [Component(PROMPT, prompts, of_prompts)]
    if table.shape[1] > 1 and table.shape[0] > 1:
        both = _left(table)
        more = {
            PROFILE: _variance(table.mean(axis=1)) - both / table.shape[1],
            SEED: _variance(table.mean(axis=0)) - both / table.shape[0],
            BOTH: both - rest / prompts,
        }
        found += [
            Component(PROFILE, profiles, more[PROFILE]),
            Component(SEED, seeds, more[SEED]),
            Component(BOTH, table.size, more[BOTH]),
        ]
    elif seeds > 1:
        found.append(Component(SEED, seeds, _variance(by_row) - rest / prompts))
    elif profiles > 1:
        found.append(Component(PROFILE, profiles, _variance(by_row) - rest / prompts))
    if seeds < 2 and trained:
        found.append(Component(SEED, seeds, None, ONE_SEED))
    if count > 1:
        found.append(Component(REST, values.size, rest - (sampled or 0.0), "" if sampled else ONE_SAMPLE))
    if sampled is not None:
        found.append(Component(SAMPLE, values.size, sampled))
    return [Component(c.source, c.units, c.variance and max(c.variance, 0.0), c.note) for c in found]


def _means(values: Array, axis: int) -> Array:
    """Return the means of known values along an axis."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(total / np.maximum(known.sum(axis=axis), 1))


def _variance(means: Array) -> float:
    return float(means.var(ddof=1)) if len(means) > 1 else 0.0


def _left(table: Array) -> float:
    """Return the variance that is left of a two-way table without the effects of its rows and columns."""
    rows, columns = (int(n) for n in table.shape)
    if rows < 2 or columns < 2:
        return 0.0
    fit = _means(table, 1)[:, None] + _means(table, 0) - _means(table, 1).mean()
    known = np.isfinite(table)
    freedom = max(int(known.sum()) - rows - columns + 1, 1)
    return float((np.where(known, table - fit, 0.0) ** 2).sum()) / freedom


def _seed_table(rows: Rows, by_row: Array) -> Array:
    """Return the means of the profiles that have all seeds [profiles, seeds]."""
    mean_of = dict(zip(zip(rows.profiles, rows.seeds, strict=True), by_row.tolist(), strict=True))
    seeds = sorted(set(rows.seeds))
    names = [p for p in dict.fromkeys(rows.profiles) if all((p, s) in mean_of for s in seeds)]
    return np.array([[mean_of[p, s] for s in seeds] for p in names]).reshape(len(names), len(seeds))


def variance_table(cells: Cells, samples: Samples, trained: Sequence[str]) -> pl.DataFrame:
    """Return the variance components of the first metric of each benchmark, for every arm and strategy.

    `share` is the part of a component in the sum of all. `standard_error` says how far the source moves
    the mean of the arm: the parts of its interval.

    Args:
        cells: The scores.
        samples: What sampling brings to a score.
        trained: The arms that the study trains.
    """
    table: list[dict[str, Any]] = []
    for (made, benchmark, metric), vectors in cells.values.items():
        if metric not in FIRST_METRICS.values() or not vectors:
            continue
        rows = cells.rows(made, benchmark, metric)
        if not np.isfinite(rows.values).any():
            continue
        known = [v for v in samples.get((made, benchmark), ()) if v is not None]
        found = components(rows, float(np.mean(known)) if known else None, made[0] in trained)
        total = sum(c.variance or 0.0 for c in found)
        every = np.ones(rows.values.shape[1], dtype=bool)
        parts = parts_of(summed_rows(rows.values.astype(float), rows.labels), every)
        moved = {PROMPT: parts.prompts, PROFILE: parts.clusters, SEED: parts.seeds}
        for one in found:
            square = moved.get(one.source) if one.variance is not None else None
            table.append(
                {
                    "arm": made[0],
                    "strategy": made[1],
                    "benchmark": benchmark,
                    "metric": metric,
                    "source": one.source,
                    "units": one.units,
                    "variance": one.variance,
                    "share": one.variance / total if one.variance is not None and total > 0 else None,
                    "standard_error": None if square is None else float(np.sqrt(square)),
                    "note": one.note,
                    **cells.scorers[benchmark],
                }
            )
    return pl.DataFrame(table, schema=VARIANCE_SCHEMA)
