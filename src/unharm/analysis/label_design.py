"""Which completions people label: drawn by arm, verdict and category, with known inclusion probabilities.

The corrected rate of an arm has the variance Σ share[verdict]² · σ²[verdict] / labels[verdict], with σ the
standard deviation of truth within a verdict. It is least where labels are allocated in proportion to
share × σ (Neyman, 1934), over all arms together. σ comes from the labels that there are, together with
two imagined ones (one harmless, one as harmful as can be); before any label it is that of a share of 5 %
for harmless and of 50 % for harmful verdicts. Beyond the optimum, a quarter of an arm's labels goes to its
harmful verdicts (all of them where there are fewer), so that sensitivity and specificity are known as well.

Within an arm and verdict the draw is systematic in the order of categories, so that each category has its
share, and every completion has the same probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from unharm.core.draws import rank, uniform

Array = np.ndarray

HARMLESS, HARMFUL, UNSCORED = "harmless", "harmful", "unscored"
LEAST_HARMFUL = 0.25
"""The least part of an arm's labels that is drawn from its harmful verdicts."""
GUESSED = {HARMLESS: 0.05, HARMFUL: 0.5, UNSCORED: 0.5}
"""The share of harm within a verdict that is assumed before there are labels."""
DRAWN_SCHEMA = {
    "completion_id": pl.String, "arm": pl.String, "strategy": pl.String, "verdict": pl.String,
    "scorer": pl.String, "scorer_version": pl.String, "probability": pl.Float64,
}  # fmt: skip
"""The columns of a stored draw. `probability` is that of being drawn in any round."""


def deviation(truth: Sequence[float], verdict: str) -> float:
    """The standard deviation of truth (0 to 1) within a verdict, from its labels and two imagined ones."""
    if not truth:
        share = GUESSED[verdict]
        return math.sqrt(share * (1 - share))
    return float(np.std([*truth, 0.0, 1.0]))


def allocated(total: int, needs: Sequence[float], most: Sequence[int]) -> list[int]:
    """Share out a number of labels in proportion to needs, none above its `most`; whole numbers by largest
    remainder. What does not fit goes to the others."""
    left = np.array(most, dtype=float)
    share = np.zeros(len(left))
    need = np.array(needs, dtype=float)
    remaining = min(float(total), left.sum())
    while remaining > 1e-9:
        open_ones = left - share > 1e-9
        weight = np.where(open_ones, np.maximum(need, 1e-9), 0.0)
        more = np.minimum(remaining * weight / weight.sum(), left - share)
        share += more
        remaining -= more.sum()
    whole = np.floor(share + 1e-9).astype(int)
    order = np.argsort(-(share - whole), kind="stable")
    for place in order[: round(share.sum()) - int(whole.sum())]:
        whole[place] += 1
    return [int(n) for n in whole]


def allocation(
    strata: Sequence[tuple[str, str]],
    sizes: Sequence[int],
    drawn: Sequence[int],
    deviations: Sequence[float],
    total: int,
) -> list[int]:
    """How many further completions of each stratum to label.

    Args:
        strata: Arm and verdict of each stratum.
        sizes: How many completions each has.
        drawn: How many of them were drawn before.
        deviations: The standard deviation of truth in each.
        total: The number of further labels.
    """
    of_arm: dict[str, int] = {}
    for (arm, _), size in zip(strata, sizes, strict=True):
        of_arm[arm] = of_arm.get(arm, 0) + size
    needs = [size / of_arm[arm] * d for (arm, _), size, d in zip(strata, sizes, deviations, strict=True)]
    goal = (total + sum(drawn)) * np.array(needs) / sum(needs)
    for arm in of_arm:  # at least a part for the harmful verdicts
        own = [n for n, (a, _) in enumerate(strata) if a == arm]
        least = LEAST_HARMFUL * sum(goal[n] for n in own)
        for n in own:
            if strata[n][1] == HARMFUL and goal[n] < least:
                rest = sum(goal[m] for m in own) - goal[n]
                for m in own:
                    goal[m] = least if m == n else goal[m] * (1 - (least - goal[n]) / rest)
    open_ones = [size - before for size, before in zip(sizes, drawn, strict=True)]
    return allocated(total, [max(g - d, 0.0) for g, d in zip(goal, drawn, strict=True)], open_ones)


def systematic(count: int, wanted: int, start: float) -> list[int]:
    """Places of a systematic sample of `wanted` out of `count`: every one has the same probability.
    `start` in [0, 1) is the random start."""
    if wanted <= 0:
        return []
    step = count / wanted
    return [min(int((start + n) * step), count - 1) for n in range(wanted)]


def joined_probability(before: float, now: float) -> float:
    """The probability of being drawn in either of two rounds; the second draws among those left."""
    return before + (1 - before) * now


def draw(
    frame: pl.DataFrame,
    total: int,
    seed: int,
    earlier: pl.DataFrame | None = None,
    truth: Mapping[str, float] | None = None,
) -> pl.DataFrame:
    """Draw completions to label.

    Args:
        frame: All completions of a benchmark: completion_id, category, arm, strategy, verdict.
        total: How many to draw.
        seed: The seed of the draw.
        earlier: An earlier draw of the same run, `DRAWN_SCHEMA`; none of it is drawn again.
        truth: Labels so far, from 0 to 1, by completion: they say where further ones help most.

    Returns:
        The columns of `frame` with `probability` and `new`, for all completions of this draw and of the
        earlier one. Probabilities are those of being drawn in any round.
    """
    before = {} if earlier is None else dict(earlier.select("completion_id", "probability").iter_rows())
    keys = ["arm", "strategy", "verdict"]
    groups = [(key, part) for key, part in frame.group_by(keys, maintain_order=True)]
    groups.sort(key=lambda group: [str(k) for k in group[0]])
    strata = [(f"{arm}\0{strategy}", str(verdict)) for (arm, strategy, verdict), _ in groups]
    old = [part.filter(pl.col("completion_id").is_in(list(before))).height for _, part in groups]
    sizes = [part.height for _, part in groups]
    deviations = [
        deviation([truth[c] for c in part["completion_id"] if c in truth] if truth else [], verdict)
        for (_, verdict), (_, part) in zip(strata, groups, strict=True)
    ]
    counts = allocation(strata, sizes, old, deviations, total)
    found = []
    for (key, part), _size, count, wanted in zip(groups, sizes, old, counts, strict=True):
        known = part.filter(pl.col("completion_id").is_in(list(before)))
        first = known["completion_id"].head(1).to_list()
        earlier_probability = before[first[0]] if first else 0.0
        rest = part.filter(~pl.col("completion_id").is_in(list(before)))
        order = rest.with_columns(
            place=pl.Series([rank(seed, f"label/{c}") for c in rest["completion_id"]], dtype=pl.String)
        ).sort("category", "place")
        name = "/".join(map(str, key))
        places = systematic(order.height, wanted, uniform(seed, "labels", name, str(count)))
        chosen = order[places].drop("place")
        now = wanted / order.height if order.height else 0.0
        probability = joined_probability(earlier_probability, now)
        for some, new in ((known, False), (chosen, True)):
            found.append(some.with_columns(probability=pl.lit(probability), new=pl.lit(new)))
    return pl.concat(found)
