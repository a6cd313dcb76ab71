"""Tables of what labels of people say about a scorer and about the rates that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.comparisons import (
    NO_SEED,
    Made,
    compared_by_category,
    pairs,
    verdict_of,
)
from unharm.analysis.corrected import (
    Corrected,
    RoganGladen,
    corrected_difference,
    corrected_rate,
    enough,
    rogan_gladen,
)
from unharm.analysis.intervals import adjust_rows, adjusted, holm
from unharm.analysis.labelled_rates import LEAST_LABELS, Groups, Labelled, bins_of
from unharm.analysis.metrics import ALL
from unharm.analysis.paired import Mean, Rows, means
from unharm.analysis.schemas import (
    CORRECTED_DIFFERENCES_SCHEMA,
    CORRECTED_SCHEMA,
)
from unharm.analysis.score_intervals import LEAST_PROMPTS
from unharm.analysis.settings import Analysis
from unharm.analysis.verdicts import LEVELS, LINEAR, LinearMetric, Verdicts, levels_of
from unharm.analysis.worst_case import values_of
from unharm.core.records import Subject

Array = np.ndarray

TOO_FEW_LABELS = f"fewer than {LEAST_LABELS} labels"
TOO_FEW_PROMPTS = f"fewer than {LEAST_PROMPTS} prompts"
NOT_DRAWN = "no label is of a completion that 'unharm labels' drew"
WITHOUT_UNSCORED = f"fewer than {LEAST_LABELS} labels of completions without a score: they are left out"


@dataclass
class ScoredLabels:
    """The verdicts of one scorer, and those on the completions that people labelled.

    Attributes:
        verdicts: All verdicts.
        scorers: The scorer's columns by benchmark.
        rows: By arm, strategy and benchmark: profile, seed, prompt_id, value, truth, probability.
    """

    verdicts: Verdicts = field(default_factory=Verdicts)
    scorers: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[tuple[Made, str], list[pl.DataFrame]] = field(default_factory=dict)

    def add(
        self,
        subject: Subject,
        benchmark: str,
        measure: str,
        prompts: pl.DataFrame,
        scores: pl.DataFrame,
        labels: pl.DataFrame | None,
    ) -> None:
        """Add the scores of one subject. `labels` has completion_id, truth, probability (null where the
        completion was not drawn)."""
        self.verdicts.add(subject, benchmark, measure, prompts, scores)
        if labels is None:
            return
        joined = scores.select("completion_id", "prompt_id", "value").join(labels, on="completion_id")
        if joined.height:
            seed = NO_SEED if subject.seed is None else subject.seed
            joined = joined.with_columns(profile=pl.lit(subject.profile_name), seed=pl.lit(seed))
            at = (subject.arm, subject.strategy), benchmark
            self.rows.setdefault(at, []).append(joined)

    def benchmarks(self) -> list[str]:
        """The benchmarks with labels."""
        return list(dict.fromkeys(benchmark for _, benchmark in self.rows))

    def labelled(self, made: Made, benchmark: str, of_level: tuple[float, ...], mask: Array) -> Labelled:
        """The drawn and labelled completions of an arm on some prompts, with truth from 0 to 1."""
        frames = self.rows.get((made, benchmark), [])
        nothing = np.zeros(0)
        if not frames:
            return Labelled(nothing.astype(int), nothing.astype(int), nothing.astype(int), nothing, nothing)
        prompts = self.verdicts.prompts[benchmark].select("prompt_id").with_row_index("place")
        frame = (
            pl.concat(frames).drop_nulls("probability").join(prompts, on="prompt_id", maintain_order="left")
        )
        place = frame["place"].to_numpy().astype(int)
        measure = self.verdicts.measures[benchmark]
        rows = {row: n for n, row in enumerate(self.verdicts.shares[made, benchmark])}
        numbers = [rows[key] for key in frame.select("profile", "seed").iter_rows()]
        value = frame["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        labelled = Labelled(
            levels_of(measure, value),
            np.array(numbers, dtype=int),
            place,
            truth_of(measure, frame["truth"].to_numpy(), of_level),
            1 / frame["probability"].to_numpy(),
        )
        return labelled.of(mask[place]) if len(place) else labelled


def truth_of(measure: str, labels: Array, of_level: tuple[float, ...]) -> Array:
    """Labels from 0 to 1 under a metric. A label between two levels (a mean of raters) lies between their
    values."""
    if measure == "toxicity":
        return np.asarray(np.take(of_level, levels_of(measure, labels)))
    return np.asarray(np.interp(labels, LEVELS[measure], of_level))


def verdict_groups(measure: str) -> Groups:
    """Every level as a verdict of its own."""
    return tuple((n,) for n in range(len(LEVELS[measure])))


@dataclass(frozen=True)
class ArmRate:
    """The corrected rate of an arm on some prompts, or None with a `note` that says why; and how many
    completions were drawn and labelled."""

    rate: Corrected | None
    note: str
    drawn: int

    @property
    def left_out(self) -> int:
        """How many labelled completions without a score the rate leaves out."""
        return 0 if self.rate is None else self.drawn - self.rate.labels


def arm_rate(
    scored: ScoredLabels, made: Made, benchmark: str, metric: LinearMetric, mask: Array
) -> ArmRate:
    """Correct the rate of an arm on some prompts."""
    measure = scored.verdicts.measures[benchmark]
    labelled = scored.labelled(made, benchmark, metric.of_level, mask)
    drawn = len(labelled.levels)
    if not drawn:
        return ArmRate(None, NOT_DRAWN, 0)
    groups, note = verdict_groups(measure), ""
    without = int((labelled.levels == len(LEVELS[measure])).sum())
    missing = scored.verdicts.stacked(made, benchmark)[:, mask, -2]
    bins = bins_of(labelled, groups)
    if bins and without >= LEAST_LABELS:
        bins += bins_of(labelled, ((len(LEVELS[measure]),),))
    elif np.nansum(missing) > 0:
        note = WITHOUT_UNSCORED
    if not bins:
        return ArmRate(None, TOO_FEW_LABELS, drawn)

    def rows(make: Any) -> Rows:
        every = scored.verdicts.rows(made, benchmark, make)
        return replace(every, values=every.values[:, mask])

    position = np.cumsum(mask) - 1
    rate = corrected_rate(rows, replace(labelled, prompts=position[labelled.prompts]), bins)
    if rate is not None and not enough(rate):
        return ArmRate(None, TOO_FEW_PROMPTS, drawn)
    return ArmRate(rate, note, drawn)


def corrected_tables(
    scored: ScoredLabels, arms: list[str], strategies: list[str], analysis: Analysis, seed: int
) -> dict[str, pl.DataFrame]:
    """The tables `corrected` and `corrected_differences` of a benchmark's main scorer.

    Differences are given whole and, against vanilla, the first strategy or a guard's own control, by
    category. p is adjusted within its `family`: by Holm over whole benchmarks, by Benjamini-Hochberg over
    categories.
    """
    rates: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    for benchmark in scored.benchmarks():
        for metric in LINEAR[scored.verdicts.measures[benchmark]]:
            if not scored.verdicts.mask(benchmark, metric.expected).any():
                continue
            for category in (ALL, *scored.verdicts.categories(benchmark, metric.expected)):
                part = _part(scored, benchmark, metric, category, analysis.confidence)
                rates += _rate_rows(scored, part, analysis, seed)
                compared += _difference_rows(scored, part, arms, strategies, analysis)
    for family in {r["family"] for r in compared}:
        adjust = adjusted if family.endswith("by category") else holm
        adjust_rows([r for r in compared if r["family"] == family], adjust)
    for row in compared:
        row["verdict"] = verdict_of(row, analysis.fdr)
    return {
        "corrected": pl.DataFrame(rates, schema=CORRECTED_SCHEMA),
        "corrected_differences": pl.DataFrame(compared, schema=CORRECTED_DIFFERENCES_SCHEMA),
    }


@dataclass(frozen=True)
class Part:
    """Some prompts of a benchmark (all, or a category) under one metric, with the mean of every arm on
    them: by the scorer alone, from 0 to 1, and corrected."""

    benchmark: str
    metric: LinearMetric
    category: str
    raw: dict[Made, Mean]
    rates: dict[Made, ArmRate]


def _part(
    scored: ScoredLabels, benchmark: str, metric: LinearMetric, category: str, confidence: float
) -> Part:
    mask = scored.verdicts.mask(benchmark, metric.expected, "" if category == ALL else category)
    raw, rates = {}, {}
    for made in scored.verdicts.arms(benchmark):
        rows = scored.verdicts.rows(made, benchmark, lambda shares: values_of(shares, metric))
        raw[made] = means(rows, [mask], (0.0, 1.0), confidence)[0]
        rates[made] = arm_rate(scored, made, benchmark, metric, mask)
    return Part(benchmark, metric, category, raw, rates)


def _rate_rows(scored: ScoredLabels, part: Part, analysis: Analysis, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of the table `corrected`. Rates under the same errors are given for whole benchmarks."""
    known = {made: arm.rate for made, arm in part.rates.items() if arm.rate is not None}
    alike: dict[Made, RoganGladen] = {}
    if part.category == ALL:
        alike = dict(zip(known, rogan_gladen([*known.values()], analysis.confidence, seed), strict=True))
    least, width = part.metric.scale

    def scaled(value: float | None) -> float | None:
        return None if value is None else least + width * value

    for made, arm in part.rates.items():
        raw, rate = part.raw[made], arm.rate
        low, high = rate.limits(analysis.confidence) if rate else (None, None)
        same = alike.get(made)
        yield {
            "arm": made[0], "strategy": made[1], "benchmark": part.benchmark, "category": part.category,
            "metric": part.metric.name, "raw": scaled(raw.value), "raw_low": scaled(raw.low),
            "raw_high": scaled(raw.high), "value": scaled(rate.value if rate else None), "low": scaled(low),
            "high": scaled(high), "n": arm.drawn, "unit": "label", "unscored": arm.left_out,
            "same_errors": scaled(same.value) if same else None,
            "same_errors_low": scaled(same.low) if same else None,
            "same_errors_high": scaled(same.high) if same else None,
            "note": arm.note, **scored.scorers[part.benchmark],
        }  # fmt: skip


def _difference_rows(
    scored: ScoredLabels, part: Part, arms: list[str], strategies: list[str], analysis: Analysis
) -> Iterator[dict[str, Any]]:
    """The rows of the table `corrected_differences`, without verdict."""
    width = part.metric.scale[1]
    for kind, one, other in pairs(arms, strategies):
        if one not in part.rates or other not in part.rates:
            continue
        if part.category != ALL and not compared_by_category(kind, one, other, strategies[0]):
            continue
        against = other[0] == "vanilla" or kind == "strategies"
        first, second = part.raw[one].value, part.raw[other].value
        family = (kind if against else "others") + ("" if part.category == ALL else " by category")
        row: dict[str, Any] = {
            "kind": kind, "family": family,
            "arm": one[0], "strategy": one[1], "reference": other[0], "reference_strategy": other[1],
            "benchmark": part.benchmark, "category": part.category, "metric": part.metric.name,
            "raw": None if first is None or second is None else (first - second) * width,
            "value": None, "low": None, "high": None, "n": 0, "unit": "label", "unscored": 0, "p": None,
            "p_adjusted": None, "note": "", **scored.scorers[part.benchmark],
        }  # fmt: skip
        rates = part.rates[one].rate, part.rates[other].rate
        if rates[0] is None or rates[1] is None:
            yield row | {"note": "one of the arms has no corrected rate"}
            continue
        apart = corrected_difference(rates[0], rates[1], analysis.confidence)
        yield row | {
            "value": apart.value * width, "low": apart.low * width, "high": apart.high * width,
            "p": apart.p, "n": rates[0].labels + rates[1].labels,
            "unscored": part.rates[one].left_out + part.rates[other].left_out,
        }  # fmt: skip
