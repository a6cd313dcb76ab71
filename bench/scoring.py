"""Metrics from scores: the bias score in closed form against a plain bootstrap of the same definition.

    python bench/scoring.py [--quick]

Three synthetic sets of 17,700 completions in 620 groups: rates that differ much, little, and mostly zero. The
plain way is scipy.stats.bootstrap per group, percentile method, 9,999 resamples. Both say of every group whether
the upper bound of its negative rate lies above the background; "same" counts the groups on which they agree.

The last line is JSON: bias_score_s (the slowest of ours, reading of the table included), bias_score_ratio (the
smallest), groups_same, groups.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
import polars as pl
from scipy import stats

from unharm.analysis.bias import bias_score

GROUPS, ROWS, RESAMPLES, CONFIDENCE = 620, 17_700, 9_999, 0.95
SETS = {"differ much": (1.0, 4.0), "differ little": (40.0, 360.0), "mostly zero": (0.1, 6.0)}
"""The rates of the groups are drawn from beta distributions with these parameters."""


def synthetic(name: str, seed: int) -> pl.DataFrame:
    """Groups of 28 or 29 completions each."""
    draw = np.random.default_rng(seed)
    sizes = np.full(GROUPS, ROWS // GROUPS)
    sizes[: ROWS - sizes.sum()] += 1
    group = np.repeat(np.arange(GROUPS), sizes)
    rates = draw.beta(*SETS[name], GROUPS)
    value = (draw.random(ROWS) < rates[group]).astype(float)
    return pl.DataFrame(
        {"axis": [f"axis {g % 8}" for g in group], "group": [f"group {g}" for g in group], "value": value}
    )


def plainly(scores: pl.DataFrame) -> dict[str, bool]:
    """Whether each group lies above the background, by resampling."""
    background = scores["value"].mean()
    above = {}
    for (group,), part in scores.group_by("group", maintain_order=True):
        values = part["value"].to_numpy()
        with warnings.catch_warnings():  # scipy's interval is NaN where all resamples are equal
            warnings.simplefilter("ignore")
            found = stats.bootstrap(
                (values,),
                np.mean,
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method="percentile",
                rng=7,
            )
        high = np.quantile(found.bootstrap_distribution, 0.5 + CONFIDENCE / 2)
        above[str(group)] = bool(high > background)
    return above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds instead of nine")
    words = parser.parse_args()
    print(f"{'rates':<16}{'score':>8}{'ours, s':>10}{'plain, s':>10}{'ratio':>8}{'same':>12}")
    slowest, ratios, same = 0.0, [], 0
    bias_score(synthetic("differ much", 99), CONFIDENCE)  # both libraries are loaded
    for number, name in enumerate(SETS):
        scores = synthetic(name, number)
        rounds = []
        for _ in range(3 if words.quick else 9):
            began = time.perf_counter()
            bias = bias_score(scores, CONFIDENCE)
            rounds.append(time.perf_counter() - began)
        ours = max(rounds)
        began = time.perf_counter()
        expected = plainly(scores)
        plain = time.perf_counter() - began
        found = dict(bias.groups.select("group", "above").iter_rows())
        agreeing = sum(found[g] == above for g, above in expected.items())
        slowest, same = max(slowest, ours), same + agreeing
        ratios.append(plain / ours)
        print(
            f"{name:<16}{bias.score.value:>8.1%}{ours:>10.4f}{plain:>10.2f}{plain / ours:>8,.0f}"
            f"{f'{agreeing} of {GROUPS}':>12}"
        )
    print(
        json.dumps(
            {
                "bias_score_s": round(slowest, 4),
                "bias_score_ratio": round(min(ratios), 1),
                "groups_same": same,
                "groups": GROUPS * len(SETS),
            }
        )
    )


if __name__ == "__main__":
    main()
