"""How far the mean of an arm would move with other training seeds.

Every seed has its own first weights, order of examples and dropout, for all adapters of an arm at once.
Scores are a matrix, rows × prompts, with one row per profile and seed:

    profile    seed 1  seed 2  seed 3
    power         x       x       x
    security      x       x       x
    tradition     x                        with `seeds.profiles: 2`

The means of the seeds over the profiles that have all of them (here power and security) differ by the
effect of a seed and by noise. The noise is what differs from cluster to cluster of profiles (the residual
of clusters × seeds without the effects of both); of a single model per seed, from prompt to prompt. What
is left is the variance of one seed. The variance of the arm's mean is that times Σ w², with the weight w
of each seed in the mean: 1 / seeds where all profiles have all seeds, nearly 1 where few have several.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def seed_part(totals: Array, sizes: Array, shares: Array) -> tuple[float, Array]:
    """Return the part of the variance of an arm's mean that seeds bring.

    Args:
        totals: Sums of the scores of the profiles that have all seeds [clusters, seeds, prompts].
        sizes: Sums of their weights; 0 where a cell is missing.
        shares: The weight of each seed in the arm's mean [seeds].

    Returns:
        The part, in squares of the score, and what each seed adds to the mean [seeds]; the product of two
        arms' is their covariance.
    """
    by_seed = np.zeros(len(shares))
    several = int(sizes.any(axis=(1, 2)).sum()) > 1
    if several:
        table, weights = totals.sum(axis=2).T, sizes.sum(axis=2).T
    else:
        table, weights = totals.sum(axis=0), sizes.sum(axis=0)
    present = weights.any(axis=1)
    used = int(present.sum())
    if used < 2:
        return 0.0, by_seed
    table, weights = table[present], weights[present]
    means = table.sum(axis=1) / weights.sum(axis=1)
    of_one = float(means.var(ddof=1)) - _noise(table, weights)
    square = float((shares**2).sum())
    by_seed[present] = (means - means.mean()) / used * np.sqrt(used * square)
    return max(of_one, 0.0) * square, by_seed


def _noise(table: Array, sizes: Array) -> float:
    """Return the variance of one seed's mean that is no effect of the seed, from sums and weights by seed
    and unit [seeds, units]."""
    both = (sizes > 0).all(axis=0)
    seeds, units = len(table), int(both.sum())
    if units < 2:
        return 0.0
    weight = sizes[:, both].sum(axis=0)
    share = weight / weight.sum()
    means = table[:, both] / sizes[:, both]
    rest = means - means.mean(axis=0) - (means @ share)[:, None] + float((means @ share).mean())
    squares = float((share**2 * rest**2).sum())
    return float(squares * units / ((units - 1) * (seeds - 1)))
