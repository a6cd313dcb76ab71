"""How far the mean of an arm would move with other prompts, other profiles and other seeds.

An arm's scores on a benchmark are a matrix, rows × prompts: one row per profile and seed. Rows of one
target (a profile and its near copies) form a cluster. Prompts, clusters and seeds are crossed random
effects. Each part of the variance of the mean comes from squared sums over its level, with the cell noise
counted once:

    prompts    (V[prompt] − V[cluster × prompt]) · G / (G − 1)
    clusters    V[cluster]
    seeds      the variance of one seed · Σ weight², where there are several: see `seed_variance`

with V[level] = Σ (sum of deviations of a unit)² / n², times k/(k − 1) for k units (method of moments;
Cameron, Gelbach and Miller, 2011, in general). Nothing is assumed about normality here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unharm.analysis.seed_variance import seed_part

Array = np.ndarray


@dataclass(frozen=True)
class RowLabels:
    """The cluster and the seed of each row, numbered from 0, and how many seeds its profile has."""

    clusters: Array
    seeds: Array
    seeds_of_profile: Array

    @property
    def count(self) -> int:
        return int(self.clusters.max(initial=-1)) + 1

    @property
    def weights(self) -> Array:
        """The weight of each row, so that all profiles count alike; 1 where all have all seeds [rows]."""
        return np.asarray(self.seeds_of_profile.max(initial=1) / self.seeds_of_profile)

    @property
    def complete(self) -> Array:
        """Whether the profile of each row has all seeds [rows]; true for all rows if none has."""
        some = self.seeds_of_profile == self.seeds_of_profile.max(initial=0)
        enough = len(np.unique(self.seeds[some])) == len(np.unique(self.seeds))
        return np.asarray(some if enough else np.ones_like(some))


def labelled(clusters: Sequence[str], seeds: Sequence[int], profiles: Sequence[str]) -> RowLabels:
    """Number the clusters and seeds of rows, and count the seeds of each row's profile."""
    _, first = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    _, second = np.unique(np.asarray(seeds, dtype=int), return_inverse=True)
    _, third = np.unique(np.asarray(profiles, dtype=str), return_inverse=True)
    return RowLabels(first, second, np.bincount(third)[third] if len(third) else third)


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


@dataclass(frozen=True)
class SummedRows:
    """The scores of an arm, summed over its rows once, for all sets of prompts that are asked for.

    Attributes:
        sums, counts: Of known values by cluster [clusters, prompts]; every profile counts alike.
        seed_sums, seed_counts: The same by seed [seeds, prompts].
        both_sums, both_counts: The same by cluster and seed of the profiles that have all seeds
            [clusters · seeds, prompts]; empty for one seed.
        cells: How many values are known [prompts].
    """

    sums: Array
    counts: Array
    seed_sums: Array
    seed_counts: Array
    both_sums: Array
    both_counts: Array
    cells: Array


def summed_rows(values: Array, labels: RowLabels) -> SummedRows:
    """Sum `values` [rows, prompts], NaN where a cell is missing."""
    present = np.isfinite(values)
    known = present * labels.weights[:, None]
    filled = np.where(present, values, 0.0) * labels.weights[:, None]
    seeds = int(labels.seeds.max(initial=-1)) + 1
    both, complete = labels.clusters * seeds + labels.seeds, labels.complete
    tables: list[Array] = []
    for places, count in ((labels.clusters, labels.count), (labels.seeds, seeds)):
        tables += [_summed(filled, places, count), _summed(known, places, count)]
    for cells in (filled, known):
        several = seeds > 1
        tables.append(
            _summed(cells[complete], both[complete], labels.count * seeds)
            if several
            else np.zeros((0, known.shape[1]))
        )
    tables.append(present.sum(axis=0))
    return SummedRows(*tables)


def parts_of(rows: SummedRows, prompts: Array, weights: Array | None = None) -> Parts:
    """Return the parts of the variance of an arm's mean over some prompts (a mask).

    `weights` [prompts] count each prompt so many times, so that a single subject has the mean over the
    same cells as the arm that it is compared with.
    """
    weight = 1.0 if weights is None else weights[prompts]
    sums, counts = rows.sums[:, prompts], rows.counts[:, prompts]
    seed_sums, seed_counts = rows.seed_sums, rows.seed_counts[:, prompts]
    n = float((counts * weight).sum())
    if not n:
        nothing = tuple(np.zeros(size) for size in (sums.shape[1], len(sums), len(seed_sums)))
        return Parts(float("nan"), 0.0, 0.0, 0.0, (0, 0, 0), 0, *nothing)
    mean = float((sums * weight).sum() / n)
    by_group = (sums - mean * counts) * weight
    used_prompts = int(counts.any(axis=0).sum())
    used_groups, used_seeds = int(counts.any(axis=1).sum()), int(seed_counts.any(axis=1).sum())

    def squares(deviations: Array, units: int) -> float:
        return float((deviations**2).sum()) / n**2 * (units / (units - 1) if units > 1 else 0.0)

    by_prompt = by_group.sum(axis=0)
    again = used_groups / (used_groups - 1) if used_groups > 1 else 0.0
    cells = float((by_group**2).sum()) / n**2
    of_prompts = squares(by_prompt, used_prompts)
    if used_groups > 1:
        of_prompts = max(of_prompts - cells, 0.0) * again
    of_seeds, by_seed = 0.0, np.zeros(len(seed_sums))
    if used_seeds > 1:
        shape = len(sums), len(seed_sums), sums.shape[1]
        totals, sizes = (
            (cells[:, prompts] * weight).reshape(shape) for cells in (rows.both_sums, rows.both_counts)
        )
        of_seeds, by_seed = seed_part(totals, sizes, (seed_counts * weight).sum(axis=1) / n)
    return Parts(
        mean, of_prompts, squares(by_group.sum(axis=1), used_groups), of_seeds,
        (used_prompts, used_groups, used_seeds), int(rows.cells[prompts].sum()),
        by_prompt / n, by_group.sum(axis=1) / n, by_seed,
    )  # fmt: skip


def _summed(values: Array, labels: Array, count: int) -> Array:
    """Return the sums of the rows with the same label [count, prompts]."""
    if len(values) == count and bool((labels == np.arange(count)).all()):
        return values.astype(float)
    onehot = np.zeros((count, len(labels)))
    onehot[labels, np.arange(len(labels))] = 1.0
    return np.asarray(onehot @ values)
