"""Do intervals and p hold with training seeds: simulated studies in which a seed moves all adapters of an arm.

    python bench/seeds.py [--quick] [--studies 200] [--minutes 60] [--only TEXT]

Each study has one benchmark of 14 categories with 50 prompts each, vanilla, and one trained arm that has no effect
on harm but that of its seeds. A seed multiplies the rates of all adapters of the arm by a factor with a standard
deviation of 0 or 20 %. Designs:

    three seeds      14 targets with 3 near copies each, all with three seeds
    some profiles    the same, three seeds for the 14 targets alone, one for the near copies
    benign           one model per seed, no profiles, three seeds
    one seed         as `three seeds` with one: what is missed without seeds

Each line counts how many 95 % intervals of the difference from vanilla (whole benchmark, categories) and of the
trained arm's mean have the true number in them, and in how many studies anything is called different at 0.05: the
whole benchmark, or a category after Benjamini-Hochberg. The last line is JSON: per design and regime the shares, and
`studies` of each.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from unharm.analysis.intervals import adjusted
from unharm.analysis.paired import Rows, differences, means
from unharm.analysis.simulated_study import (
    Regime,
    SimulatedBench,
    SimulatedScores,
    simulate_bench,
    survey_like_profiles,
)

BENCH = SimulatedBench("flagged", {f"kind {n}": 50 for n in range(14)})
BOUNDS, LEVEL, NEAR = (0.0, 1.0), 0.05, 3
DESIGNS = ("three seeds", "some profiles", "benign", "one seed")


def aligned_rows(scores: SimulatedScores, targets: list[str], design: str) -> Rows:
    """Return the rows of the trained arm as a design has them."""
    profiles, seeds, prompts = scores.aligned.shape
    names = [f"x{n}" for n in range(profiles)]
    if design == "benign":
        return Rows(scores.aligned[0], ("",) * seeds, ("",) * seeds, tuple(range(seeds)))
    first = {target: targets.index(target) for target in targets}
    chosen = [
        (p, s)
        for p in range(profiles)
        for s in range(seeds)
        if design != "some profiles" or s == 0 or p in first.values()
    ]
    values = np.array([scores.aligned[p, s] for p, s in chosen]).reshape(len(chosen), prompts)
    return Rows(
        values,
        tuple(targets[p] for p, _ in chosen),
        tuple(names[p] for p, _ in chosen),
        tuple(s for _, s in chosen),
    )


def study(regime: Regime, design: str, seed: int) -> dict[str, list[bool]]:
    """Return which intervals of one simulated study have the truth in them, and whether it claims anything."""
    importances, targets = survey_like_profiles(seed % 2, NEAR, 500)
    if design == "benign":
        importances, targets = importances[:1], targets[:1]
        regime = replace(regime, whole=1e-6, part=1e-6)
    if design == "one seed":
        regime = replace(regime, seeds=1)
    scores = simulate_bench(importances, targets, "b", BENCH, regime, [seed, DESIGNS.index(design)])
    one = aligned_rows(scores, targets, design)
    other = Rows(scores.vanilla.T, ("",), ("",), (0,))
    names = list(BENCH.categories)
    every = np.ones(len(scores.categories), dtype=bool)
    masks = [scores.categories == name for name in names]
    expected = [float(np.mean(list(side.values()))) for side in (scores.true_aligned, scores.true_vanilla)]
    found: dict[str, list[bool]] = defaultdict(list)
    whole = differences(one, other, [every], BOUNDS, 0.95)[0]
    assert whole.low is not None
    assert whole.high is not None
    assert whole.p is not None
    found["whole"].append(whole.low <= expected[0] - expected[1] <= whole.high)
    found["false whole"].append(whole.p <= LEVEL)
    parts = differences(one, other, masks, BOUNDS, 0.95)
    for name, part in zip(names, parts, strict=True):
        truth = scores.true_aligned[name] - scores.true_vanilla[name]
        assert part.low is not None
        assert part.high is not None
        found["category"].append(part.low <= truth <= part.high)
    found["false category"].append(min(adjusted([part.p or 0.0 for part in parts])) <= LEVEL)
    mean = means(one, [every], BOUNDS, 0.95)[0]
    assert mean.low is not None
    assert mean.high is not None
    found["arm"].append(mean.low <= expected[0] <= mean.high)
    return found


def main() -> None:
    """Simulate the studies of every design and regime, round by round, and print the shares."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", default="", help="only regimes whose name has this text in it")
    chosen = parser.parse_args()
    studies, minutes = (10, 0.6) if chosen.quick else (chosen.studies, chosen.minutes)
    bases = (0.1,) if chosen.quick else (0.01, 0.1)
    regimes = {
        f"{design}, harm {base:.0%}, seed effect {effect:.0%}": (
            design,
            Regime(base=base, share=0.2, seeds=3, seed_effect=effect, vanilla_samples=1),
        )
        for design in DESIGNS
        for base in bases
        for effect in ((0.2,) if chosen.quick or design == "one seed" else (0.0, 0.2))
    }
    regimes = {name: regime for name, regime in regimes.items() if chosen.only in name}
    began, rounds = time.monotonic(), 0
    flags: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in regimes}
    while rounds < studies and time.monotonic() - began < 60 * minutes:
        for name, (design, regime) in regimes.items():
            for kind, some in study(regime, design, rounds).items():
                flags[name][kind] += some
        rounds += 1
    kinds = ("whole", "category", "arm", "false whole", "false category")
    print(f"{'':<48}" + "".join(f"{kind:>16}" for kind in kinds))
    shares = {
        name: {kind: round(float(np.mean(f[kind])), 4) for kind in kinds} for name, f in flags.items()
    }
    for name, row in shares.items():
        print(f"{name:<48}" + "".join(f"{row[kind]:>16.3f}" for kind in kinds))
    print(json.dumps({"shares": shares, "studies": rounds, "seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
