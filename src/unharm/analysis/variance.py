"""How far the mean of an arm would move with other prompts, other profiles and other seeds.

An arm's scores on a benchmark are a matrix, rows × prompts: one row per profile and seed. Rows of one
target (a profile and its near copies) form a cluster. Prompts, clusters and seeds are crossed random
effects. Each part of the variance of the mean comes from squared sums over its level, with the cell noise
counted once:

    prompts    (V[prompt] − V[cluster × prompt]) · G / (G − 1)
    clusters    V[cluster]
    seeds      (V[seed] − V[cluster × seed]) · G / (G − 1), where there are several

with V[level] = Σ (sum of deviations of a unit)² / n², times k/(k − 1) for k units (method of moments;
Cameron, Gelbach and Miller, 2011, in general). Nothing is assumed about normality here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class RowLabels:
    """The cluster and the seed of each row, numbered from 0."""

    clusters: Array
    seeds: Array

    @property
    def count(self) -> int:
        return int(self.clusters.max(initial=-1)) + 1


def labelled(clusters: Sequence[str], seeds: Sequence[int]) -> RowLabels:
    """Number the clusters and seeds of rows."""
    _, first = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    _, second = np.unique(np.asarray(seeds, dtype=int), return_inverse=True)
    return RowLabels(first, second)


@dataclass(frozen=True)
class Parts:
    """A mean and the parts of its variance.

    Attributes:
        mean: Of all cells that have a value; NaN where none has.
        prompts, clusters, seeds: The parts, in squares of the score; 0 where there is one unit.
        counts: How many prompts, clusters and seeds there are.
        cells: How many cells have a value.
        by_prompt: What each prompt adds to the mean [prompts]; sums to 0. Parts of two arms on the same
            prompts give their covariance.
        by_cluster, by_seed: The same for clusters and seeds.
    """

    mean: float
    prompts: float
    clusters: float
    seeds: float
    counts: tuple[int, int, int]
    cells: int
    by_prompt: Array
    by_cluster: Array
    by_seed: Array


def parts_of(values: Array, labels: RowLabels, weights: Array | None = None) -> Parts:
    """The parts of the variance of the mean of `values` [rows, prompts], NaN where a cell is missing.

    `weights` [prompts] count each prompt so many times, so that a single subject has the mean over the
    same cells as the arm that it is compared with.
    """
    known = np.isfinite(values)
    weight = known * (np.ones(values.shape[1]) if weights is None else weights)
    n = float(weight.sum())
    prompts = values.shape[1]
    groups, seeds = labels.count, int(labels.seeds.max(initial=-1)) + 1
    if not n:
        nothing = np.zeros(prompts), np.zeros(groups), np.zeros(seeds)
        return Parts(float("nan"), 0.0, 0.0, 0.0, (0, 0, 0), 0, *nothing)
    mean = float((np.where(known, values, 0.0) * weight).sum() / n)
    deviations = np.where(known, values - mean, 0.0) * weight
    by_group = _summed(deviations, labels.clusters, groups)
    used = int(known.any(axis=0).sum()), int(_summed(known, labels.clusters, groups).any(axis=1).sum())
    seeds_used = int(_summed(known, labels.seeds, seeds).any(axis=1).sum())

    def squares(sums: Array, units: int) -> float:
        return float((sums**2).sum()) / n**2 * (units / (units - 1) if units > 1 else 0.0)

    counts = (*used, seeds_used)
    by_prompt = deviations.sum(axis=0)
    again = used[1] / (used[1] - 1) if used[1] > 1 else 0.0
    cells = float((by_group**2).sum()) / n**2
    of_prompts = squares(by_prompt, used[0])
    if used[1] > 1:
        of_prompts = max(of_prompts - cells, 0.0) * again
    of_clusters = squares(by_group.sum(axis=1), used[1])
    of_seeds, by_seed = 0.0, np.zeros(seeds)
    if seeds_used > 1:
        by_seed = _summed(deviations, labels.seeds, seeds).sum(axis=1)
        both = _summed(deviations, labels.clusters * seeds + labels.seeds, groups * seeds).sum(axis=1)
        of_seeds = squares(by_seed, seeds_used)
        if used[1] > 1:
            of_seeds = max(of_seeds - float((both**2).sum()) / n**2, 0.0) * again
    return Parts(
        mean, of_prompts, of_clusters, of_seeds, counts, int(known.sum()),
        by_prompt / n, by_group.sum(axis=1) / n, by_seed / n,
    )  # fmt: skip


def _summed(values: Array, labels: Array, count: int) -> Array:
    """Sums of the rows with the same label [count, prompts]."""
    if len(values) == count and bool((labels == np.arange(count)).all()):
        return values.astype(float)
    onehot = np.zeros((count, len(labels)))
    onehot[labels, np.arange(len(labels))] = 1.0
    return np.asarray(onehot @ values)
