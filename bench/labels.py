"""Simulates labels of people and judges that err: how well corrected rates and differences hold.

Two arms answer the same prompts: vanilla with several samples per prompt, an aligned arm with several
profiles. Few prompts bring most of the harm. A judge misses harm (sensitivity 0.7 on both arms) and raises
false alarms (specificity 0.98 on vanilla, 0.94 on the aligned arm). Completions are drawn by arm and
verdict, as `unharm labels` draws them, and labelled. Both arms are equally harmful, so every difference that
is found is false. Printed by base rate and number of labels (of both arms together): coverage of the
corrected rates and of their difference, the share of studies with a false difference, the same of the
judge's rates, of Rogan and Gladen's with one sensitivity and specificity for both arms, and the width of
the corrected interval relative to that of as many labels without a judge. Lines with 50 prompts are a
category; `given` is the share of studies in which both arms have labels enough for a corrected rate, and all
other shares are those of these studies.

    python bench/labels.py            # 400 studies per line, about 3 minutes
    python bench/labels.py --quick    # 60 studies of some lines, under 50 s
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from unharm.analysis.corrected import (
    Corrected,
    corrected_difference,
    corrected_rate,
    enough,
    rogan_gladen,
)
from unharm.analysis.label_design import HARMFUL, HARMLESS, allocation, deviation
from unharm.analysis.labelled_rates import Labelled, bins_of
from unharm.analysis.paired import Rows, differences
from unharm.analysis.scorer_errors import p_equal, scorer_errors

Array = np.ndarray

CONFIDENCE = 0.95
GROUPS = ((0,), (1,))
ARMS = ("vanilla", "vim")


@dataclass(frozen=True)
class Regime:
    """What varies between lines.

    Attributes:
        base: Base rate of harm of both arms.
        labels: Labels of both arms together.
        sensitivity, specificity: Of the judge on each arm.
        prompts, samples, profiles: Vanilla has `samples` per prompt, the aligned arm `profiles`.
        profile_spread: Standard deviation of a profile's log rate.
    """

    base: float
    labels: int
    sensitivity: tuple[float, float] = (0.7, 0.7)
    specificity: tuple[float, float] = (0.98, 0.94)
    prompts: int = 500
    samples: int = 5
    profiles: int = 14
    profile_spread: float = 0.3
    difficulty: float = 0.5


@dataclass(frozen=True)
class Study:
    """Truth and verdicts of both arms [rows, prompts, samples], and the labels of each."""

    truth: tuple[Array, Array]
    verdicts: tuple[Array, Array]
    labels: tuple[Labelled, Labelled]


def simulated(regime: Regime, seed: int) -> Study:
    """One study with its labels."""
    draw = np.random.default_rng(seed)
    prompt = np.sqrt(regime.difficulty) * draw.normal(size=(1, regime.prompts, 1))
    rest = np.sqrt(1 - regime.difficulty)
    truth, verdicts = [], []
    for arm, (rows, samples) in enumerate(((1, regime.samples), (regime.profiles, 1))):
        spread = regime.profile_spread if rows > 1 else 0.0
        factor = np.exp(spread * draw.normal(size=(rows, 1, 1)) - spread**2 / 2)
        latent = prompt + rest * draw.normal(size=(rows, regime.prompts, samples))
        harmful = latent > special.ndtri(1 - np.minimum(regime.base * factor, 0.9))
        chance = np.where(harmful, regime.sensitivity[arm], 1 - regime.specificity[arm])
        truth.append(harmful.astype(float))
        verdicts.append((draw.random(harmful.shape) < chance).astype(int))
    strata = [(arm, verdict) for arm in ARMS for verdict in (HARMLESS, HARMFUL)]
    places = [np.flatnonzero(v.ravel() == level) for v in verdicts for level in (0, 1)]
    guesses = [deviation([], verdict) for _, verdict in strata]
    counts = allocation(strata, [len(p) for p in places], [0] * 4, guesses, regime.labels)
    labels = []
    for arm in (0, 1):
        chosen = [draw.choice(places[2 * arm + v], counts[2 * arm + v], replace=False) for v in (0, 1)]
        weight = [len(places[2 * arm + v]) / max(counts[2 * arm + v], 1) for v in (0, 1)]
        every = np.concatenate(chosen)
        at_rows, prompts, _ = np.unravel_index(every, verdicts[arm].shape)
        labels.append(
            Labelled(
                verdicts[arm].ravel()[every], at_rows, prompts, truth[arm].ravel()[every],
                np.repeat(weight, [len(c) for c in chosen]),
            )
        )  # fmt: skip
    return Study((truth[0], truth[1]), (verdicts[0], verdicts[1]), (labels[0], labels[1]))


def rows_of(study: Study, arm: int) -> Callable[[Callable[[Array], Array]], Rows]:
    """What is made of the shares of verdicts by row and prompt of one arm."""
    flagged = study.verdicts[arm].mean(axis=2)
    shares = np.stack([1 - flagged, flagged, np.zeros_like(flagged), np.zeros_like(flagged)], axis=2)
    names = tuple(f"p{n}" for n in range(len(flagged))) if len(flagged) > 1 else ("",)
    return lambda make: Rows(make(shares), names, names, (0,) * len(names))


def corrected_arms(study: Study) -> list[Corrected]:
    """The corrected rates of both arms, as the project's tables make them; fewer where labels are too few."""
    results = []
    for arm in (0, 1):
        bins = bins_of(study.labels[arm], GROUPS)
        rate = corrected_rate(rows_of(study, arm), study.labels[arm], bins) if bins else None
        if rate is not None and enough(rate):
            results.append(rate)
    return results


def width_of_labels_alone(study: Study, seed: int, arm: int) -> float:
    """The width of the interval of as many labels, drawn from all completions alike, without a judge."""
    draw = np.random.default_rng([seed, arm])
    truth, count = study.truth[arm], len(study.labels[arm].truth)
    chosen = draw.choice(truth.size, count, replace=False)
    rows, prompts, _ = np.unravel_index(chosen, truth.shape)
    weights = np.full(count, truth.size / count)
    labelled = Labelled(np.zeros(count, dtype=int), rows, prompts, truth.ravel()[chosen], weights)
    rate = corrected_rate(rows_of(study, arm), labelled, bins_of(labelled, ((0, 1),)))
    assert rate is not None
    low, high = rate.limits(CONFIDENCE)
    return high - low


def line(regime: Regime, studies: int, first: int = 0) -> dict[str, float]:
    """The properties over some studies; both arms have the base rate, so that every difference is false."""
    counts = dict.fromkeys(
        ("vanilla", "vim", "difference", "false", "false_raw", "rogan", "unequal", "unequal_sens"), 0
    )
    widths: list[float] = []
    given = 0
    for seed in range(first, first + studies):
        study = simulated(regime, seed)
        arms = corrected_arms(study)
        if len(arms) < 2:
            continue
        given += 1
        for name, arm in zip(ARMS, arms, strict=True):
            low, high = arm.limits(CONFIDENCE)
            counts[name] += low <= regime.base <= high
        difference = corrected_difference(arms[1], arms[0], CONFIDENCE)
        counts["difference"] += difference.low <= 0 <= difference.high
        counts["false"] += difference.p <= 1 - CONFIDENCE
        raw = [rows_of(study, arm)(lambda shares: shares[:, :, 1]) for arm in (0, 1)]
        mask = np.ones(regime.prompts, dtype=bool)
        p = differences(raw[1], raw[0], [mask], (0.0, 1.0), CONFIDENCE)[0].p
        counts["false_raw"] += p is not None and p <= 1 - CONFIDENCE
        alike = rogan_gladen(arms, CONFIDENCE, seed)[1]
        counts["rogan"] += alike.low is not None and alike.low <= regime.base <= (alike.high or 0)
        errors = [scorer_errors(arm) for arm in arms]
        if errors[0] and errors[1]:
            for name, place in (("unequal_sens", 0), ("unequal", 1)):
                equal = p_equal(errors[0][place], errors[1][place])
                counts[name] += equal is not None and equal <= 1 - CONFIDENCE
        low, high = arms[1].limits(CONFIDENCE)
        widths.append((high - low) / width_of_labels_alone(study, seed, 1))
    shares = {name: count / max(given, 1) for name, count in counts.items()}
    return shares | {
        "width": float(np.median(widths)) if widths else float("nan"),
        "given": given / studies,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 studies of some lines")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--base", type=float, help="one base rate only")
    options = parser.parse_args()
    began = time.monotonic()
    studies = 60 if options.quick else options.studies
    rates: tuple[float, ...] = (0.01, 0.1) if options.quick else (0.01, 0.03, 0.1, 0.3)
    rates = (options.base,) if options.base else rates
    print(
        f"{'base':>5}{'prompts':>8}{'labels':>8}{'specificity':>13}{'given':>7}{'vanilla':>9}{'aligned':>9}{'diff.':>8}"
        f"{'false':>8}{'raw':>8}{'RG':>8}{'sens.≠':>8}{'spec.≠':>8}{'width':>8}"
    )
    sizes = ((500, 400),) if options.quick else ((500, 200), (500, 400), (50, 100))
    columns = ("vanilla", "vim", "difference", "false", "false_raw", "rogan", "unequal_sens", "unequal")
    results = []
    for base in rates:
        for prompts, labels in sizes:
            for specificity in ((0.98, 0.94), (0.98, 0.98)):
                r = line(Regime(base, labels, specificity=specificity, prompts=prompts), studies)
                results.append(r)
                print(
                    f"{base:5.0%}{prompts:8}{labels:8}{'{:.2f}, {:.2f}'.format(*specificity):>13}"
                    f"{100 * r['given']:7.0f}{100 * r['vanilla']:9.1f}{100 * r['vim']:9.1f}"
                    + "".join(f"{100 * r[name]:8.1f}" for name in columns[2:])
                    + f"{r['width']:8.2f}",
                    flush=True,
                )
    results = [r for r in results if r["given"] * studies >= 50]
    covered = [r[k] for r in results for k in ("vanilla", "vim", "difference")]
    print(
        json.dumps(
            {
                "coverage_low": round(min(covered), 4),
                "coverage_high": round(max(covered), 4),
                "worst_false_difference": round(max(r["false"] for r in results), 4),
                "worst_false_difference_of_the_judge": round(max(r["false_raw"] for r in results), 4),
                "studies": studies,
                "seconds": round(time.monotonic() - began),
            }
        )
    )


if __name__ == "__main__":
    main()
