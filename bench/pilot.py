"""Moving from one scorer to another on simulated scorers: do mapped estimates cover what the old one would say?

    python bench/pilot.py [--quick] [--studies 200] [--n 2000] [--seed 1]

Each study has the arms vanilla and vim. The new scorer B scores 1,500 prompts of each; in a pilot both scorers
have scored n of these texts. In vim the values of B lie higher, and in half of the studies the same value of B
stands for 5 points more (of the range) of the old scorer A than in vanilla. The truth is A's mean over very many
texts of the arm. Three pairs of scorers: two classifiers of toxicity, two guards, a judge from 1 to 5 and a
guard's probability.

The last line is JSON: studies, n, for each pair the coverage of the 95 % interval in vanilla, in vim with the same
relation and in vim with the shift (target: 0.93 to 0.98), false_alarm (target: about 0.05) and power (the share of
shifts that the test finds; target: 0.9), and the same power for three aligned arms that share the n texts.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.bridge import Bridge, fit_bridge
from unharm.analysis.measures import FIRST_METRICS
from unharm.analysis.metrics import ALL, benchmark_metrics
from unharm.runs.tools.pilot_sample import sizes_of

PROMPTS, SHIFT = 1500, 0.05
TRUTH = 400_000


@dataclass(frozen=True)
class Pair:
    """Two scorers: what the old one measures, and the range of its values."""

    name: str
    measures: str
    low: float
    high: float


PAIRS = (
    Pair("toxicity", "toxicity", 0.0, 1.0),
    Pair("guards", "flagged", 0.0, 1.0),
    Pair("judge", "harmfulness", 1.0, 5.0),
)


def texts(pair: Pair, aligned: bool, shifted: bool, count: int, draw: np.random.Generator) -> np.ndarray:
    """Values of B and of A for texts of one arm, [2, texts]. A depends on the arm through B alone, but for the
    shift."""
    latent = draw.normal(0.4 if aligned else 0.0, 1, count)
    if pair.name == "guards":
        b = (latent > 1.0).astype(float)
        chance = np.where(b > 0, 0.75, 0.06) + SHIFT * shifted
        return np.stack([b, (draw.random(count) < chance).astype(float)])
    b = 1 / (1 + np.exp(-(1.3 * latent - 1.2)))
    if pair.name == "toxicity":
        a = np.clip(b**0.8 * 0.85 + 0.05 + draw.normal(0, 0.12, count), 0, 1)
    else:
        a = np.clip(np.round(1 + 4 * b + draw.normal(0, 0.8, count)), 1, 5)
    if shifted:  # some texts get the highest value, so many that the mean rises by the shift
        room = pair.high - a.mean()
        a = np.where(draw.random(count) < SHIFT * (pair.high - pair.low) / room, pair.high, a)
    return np.stack([b, a])


def study(
    pair: Pair, arms: list[tuple[str, bool, bool]], n: int, seed: list[int]
) -> tuple[Bridge, dict[str, np.ndarray]]:
    """The values of a study by arm (name, aligned, shifted), and the map of its pilot."""
    draw = np.random.default_rng(seed)
    values = {arm: texts(pair, aligned, shifted, PROMPTS, draw) for arm, aligned, shifted in arms}
    sizes = sizes_of(n, {arm: PROMPTS for arm, _, _ in arms}, "vanilla")
    frames = []
    for arm, (b, a) in values.items():
        places = draw.permutation(PROMPTS)[: sizes[arm]]
        group = [f"p{place}" for place in places]
        frames.append(pl.DataFrame({"arm": arm, "group": group, "one": b[places], "other": a[places]}))
    fitted = fit_bridge(pl.concat(frames), ("B", "1"), ("A", "1"), pair.measures, seed=seed[-1])
    return fitted, values


def covered(pair: Pair, fitted: Bridge, arm: str, b: np.ndarray, truth: float) -> bool:
    scores = pl.DataFrame(
        {"prompt_id": [f"p{n}" for n in range(len(b))], "category": "", "value": b, "flag": ""}
    )
    metric = FIRST_METRICS[pair.measures]
    rows = benchmark_metrics(scores, pair.measures, 0.95, (), fitted.for_arm(arm))
    estimate = next(e for category, name, e in rows if (category, name) == (ALL, metric))
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def measure(pair: Pair, studies: int, n: int, seed: int) -> dict[str, Any]:
    kinds = {"vanilla": (False, False), "same": (True, False), "shifted": (True, True)}
    truth = {
        kind: float(texts(pair, *how, TRUTH, np.random.default_rng([seed, 9]))[1].mean())
        for kind, how in kinds.items()
    }
    inside: dict[str, list[bool]] = {kind: [] for kind in kinds}
    found: dict[str, list[bool]] = {"same": [], "shifted": []}
    among_three: list[bool] = []
    for number in range(studies):
        kind = "shifted" if number % 2 else "same"
        arms = [("vanilla", False, False), ("vim", *kinds[kind])]
        fitted, values = study(pair, arms, n, [seed, number])
        found[kind].append(fitted.arms["vim"].shifted)
        inside["vanilla"].append(covered(pair, fitted, "vanilla", values["vanilla"][0], truth["vanilla"]))
        inside[kind].append(covered(pair, fitted, "vim", values["vim"][0], truth[kind]))
        if kind == "shifted":
            several = [*arms, ("icl", True, False), ("benign:grammar", False, False)]
            fitted, _ = study(pair, several, n, [seed, 1000 + number])
            among_three.append(fitted.arms["vim"].shifted)
    return {
        "coverage": {kind: round(float(np.mean(hits)), 3) for kind, hits in inside.items()},
        "false_alarm": round(float(np.mean(found["same"])), 3),
        "power": round(float(np.mean(found["shifted"])), 3),
        "power_of_three_arms": round(float(np.mean(among_three)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="12 studies")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    studies = 12 if words.quick else words.studies
    began = time.perf_counter()
    rows = {pair.name: measure(pair, studies, words.n, words.seed) for pair in PAIRS}
    print(f"{'pair':<10}{'vanilla':>9}{'same':>9}{'shifted':>9}{'alarm':>8}{'power':>8}{'of three':>10}")
    for name, row in rows.items():
        shown = "".join(f"{x:>9.3f}" for x in row["coverage"].values())
        print(
            f"{name:<10}{shown}{row['false_alarm']:>8.3f}{row['power']:>8.3f}{row['power_of_three_arms']:>10.3f}"
        )
    print(
        json.dumps(
            {"studies": studies, "n": words.n, "seconds": round(time.perf_counter() - began), **rows}
        )
    )


if __name__ == "__main__":
    main()
