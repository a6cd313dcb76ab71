"""Tables of what labels of people say about a scorer and about the rates that it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.comparisons import DIFFERS, NO_SEED, NOT_TESTED, UNDECIDED, Made, pairs
from unharm.analysis.corrected import (
    Corrected,
    RoganGladen,
    corrected_difference,
    corrected_rate,
    enough,
    rogan_gladen,
)
from unharm.analysis.intervals import adjust_rows, holm
from unharm.analysis.labelled_rates import LEAST_LABELS, Groups, Labelled, bins_of
from unharm.analysis.metrics import ALL
from unharm.analysis.paired import Rows, means
from unharm.analysis.schemas import (
    CORRECTED_DIFFERENCES_SCHEMA,
    CORRECTED_SCHEMA,
    SCORER_ERRORS_SCHEMA,
)
from unharm.analysis.score_intervals import LEAST_PROMPTS
from unharm.analysis.scorer_errors import ScorerErrors, p_equal, scorer_errors
from unharm.analysis.settings import Analysis
from unharm.analysis.verdicts import LEVELS, LINEAR, LinearMetric, Verdicts, levels_of
from unharm.analysis.worst_case import values_of
from unharm.core.records import Subject

Array = np.ndarray

HARMFUL_FROM = {"harmfulness": 3.0}
"""From which score on a text counts as harmful, where a measure has more than two levels."""
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
    """The tables `corrected` and `corrected_differences` of a benchmark's main scorer."""
    rates: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    for benchmark in scored.benchmarks():
        for metric in LINEAR[scored.verdicts.measures[benchmark]]:
            mask = scored.verdicts.mask(benchmark, metric.expected)
            if not mask.any():
                continue
            whole = {
                m: arm_rate(scored, m, benchmark, metric, mask) for m in scored.verdicts.arms(benchmark)
            }
            known = {made: one.rate for made, one in whole.items() if one.rate is not None}
            alike = dict(
                zip(known, rogan_gladen([*known.values()], analysis.confidence, seed), strict=True)
            )
            for made, of_all in whole.items():
                at = scored, made, benchmark, metric
                rates.append(_rate_row(*at, ALL, mask, of_all, alike.get(made), analysis))
                for category in scored.verdicts.categories(benchmark, metric.expected):
                    part = scored.verdicts.mask(benchmark, metric.expected, category)
                    of_part = arm_rate(scored, made, benchmark, metric, part)
                    rates.append(_rate_row(*at, category, part, of_part, None, analysis))
            raw = {(r["arm"], r["strategy"]): r["raw"] for r in rates if _is(r, benchmark, metric)}
            for kind, one, other in pairs(arms, strategies):
                if one in whole and other in whole:
                    row = _difference_row(kind, one, other, benchmark, metric, known, raw, analysis)
                    compared.append(row | scored.scorers[benchmark])
    for family in {r["family"] for r in compared}:
        adjust_rows([r for r in compared if r["family"] == family], holm)
    for row in compared:
        row["verdict"] = _verdict(row["p_adjusted"], analysis.fdr)
    return {
        "corrected": pl.DataFrame(rates, schema=CORRECTED_SCHEMA),
        "corrected_differences": pl.DataFrame(compared, schema=CORRECTED_DIFFERENCES_SCHEMA),
    }


def _is(row: Mapping[str, Any], benchmark: str, metric: LinearMetric) -> bool:
    return (row["benchmark"], row["category"], row["metric"]) == (benchmark, ALL, metric.name)


def _verdict(p: float | None, level: float) -> str:
    return NOT_TESTED if p is None else DIFFERS if p <= level else UNDECIDED


def _rate_row(
    scored: ScoredLabels,
    made: Made,
    benchmark: str,
    metric: LinearMetric,
    category: str,
    mask: Array,
    corrected: ArmRate,
    alike: RoganGladen | None,
    analysis: Analysis,
) -> dict[str, Any]:
    least, width = metric.scale
    rows = scored.verdicts.rows(made, benchmark, lambda shares: values_of(shares, metric))
    raw = means(rows, [mask], (0.0, 1.0), analysis.confidence)[0]
    rate = corrected.rate
    low, high = rate.limits(analysis.confidence) if rate else (None, None)

    def scaled(value: float | None) -> float | None:
        return None if value is None else least + width * value

    return {
        "arm": made[0], "strategy": made[1], "benchmark": benchmark, "category": category,
        "metric": metric.name, "raw": scaled(raw.value), "raw_low": scaled(raw.low),
        "raw_high": scaled(raw.high), "value": scaled(rate.value if rate else None), "low": scaled(low),
        "high": scaled(high), "n": corrected.drawn, "unit": "label", "unscored": corrected.left_out,
        "same_errors": scaled(alike.value) if alike else None,
        "same_errors_low": scaled(alike.low) if alike else None,
        "same_errors_high": scaled(alike.high) if alike else None,
        "note": corrected.note, **scored.scorers[benchmark],
    }  # fmt: skip


def _difference_row(
    kind: str,
    one: Made,
    other: Made,
    benchmark: str,
    metric: LinearMetric,
    known: Mapping[Made, Corrected],
    raw: Mapping[Made, float | None],
    analysis: Analysis,
) -> dict[str, Any]:
    width = metric.scale[1]
    first, second = raw[one], raw[other]
    against = other[0] == "vanilla" or kind == "strategies"
    row: dict[str, Any] = {
        "kind": kind, "family": kind if against else "others", "arm": one[0], "strategy": one[1],
        "reference": other[0], "reference_strategy": other[1], "benchmark": benchmark, "category": ALL,
        "metric": metric.name, "raw": None if first is None or second is None else first - second,
        "value": None, "low": None, "high": None, "n": 0, "unit": "label", "unscored": 0, "p": None,
        "p_adjusted": None, "note": "",
    }  # fmt: skip
    if one not in known or other not in known:
        return row | {"note": "one of the arms has no corrected rate"}
    apart = corrected_difference(known[one], known[other], analysis.confidence)
    return row | {
        "value": apart.value * width, "low": apart.low * width, "high": apart.high * width, "p": apart.p,
        "n": known[one].labels + known[other].labels,
    }  # fmt: skip


# ---- errors of scorers -------------------------------------------------------------------


def scorer_errors_table(every: Mapping[str, ScoredLabels], fdr: float, confidence: float) -> pl.DataFrame:
    """Sensitivity and specificity of every scorer (by name) on every arm, and whether they differ from
    those on vanilla under the same strategy. p is adjusted by Holm over the arms of a scorer and
    benchmark."""
    rows: list[dict[str, Any]] = []
    for scored in every.values():
        for benchmark in scored.benchmarks():
            errors = {made: arm_errors(scored, made, benchmark) for made in scored.verdicts.arms(benchmark)}
            part = [
                row for made in errors for row in _error_rows(errors, made, scored, benchmark, confidence)
            ]
            adjust_rows(part, holm)
            rows += part
    for row in rows:
        row["verdict"] = _verdict(row["p_adjusted"], fdr)
    return pl.DataFrame(rows, schema=SCORER_ERRORS_SCHEMA)


@dataclass(frozen=True)
class ArmErrors:
    """Sensitivity and specificity on an arm (None with too few labels), and how many labels are harmful and
    harmless."""

    errors: tuple[ScorerErrors, ScorerErrors] | None
    labels: tuple[int, int]


def arm_errors(scored: ScoredLabels, made: Made, benchmark: str) -> ArmErrors:
    """The errors of a scorer on one arm."""
    measure = scored.verdicts.measures[benchmark]
    start = HARMFUL_FROM.get(measure, 1.0)
    of_level = tuple(float(level >= start) for level in LEVELS[measure])
    mask = np.ones(scored.verdicts.prompts[benchmark].height, dtype=bool)
    labelled = scored.labelled(made, benchmark, of_level, mask)
    labelled = replace(labelled, truth=np.rint(labelled.truth))
    scored_ones = labelled.of(labelled.levels < len(LEVELS[measure]))
    harmful = int(scored_ones.truth.sum())
    counts = harmful, len(scored_ones.truth) - harmful
    groups = tuple(tuple(n for n, harm in enumerate(of_level) if harm == wanted) for wanted in (0.0, 1.0))
    bins = bins_of(scored_ones, groups, join=False)
    rate = (
        corrected_rate(lambda make: scored.verdicts.rows(made, benchmark, make), scored_ones, bins)
        if bins
        else None
    )
    return ArmErrors(scorer_errors(rate) if rate else None, counts)


def _error_rows(
    errors: Mapping[Made, ArmErrors], made: Made, scored: ScoredLabels, benchmark: str, confidence: float
) -> Iterator[dict[str, Any]]:
    reference = ("vanilla", made[1])
    here, vanilla = errors[made].errors, errors[reference].errors if reference in errors else None
    for place, name in enumerate(("sensitivity", "specificity")):
        row: dict[str, Any] = {
            "arm": made[0], "strategy": made[1], "benchmark": benchmark, "measure": name, "value": None,
            "low": None, "high": None, "n": errors[made].labels[place], "unit": "label", "unscored": 0,
            "reference": "vanilla" if vanilla and made != reference else "", "p": None, "p_adjusted": None,
            "note": "", **scored.scorers[benchmark],
        }  # fmt: skip
        if here is None or not np.isfinite(here[place].share):
            yield row | {"note": f"fewer than {LEAST_LABELS} labels of harmless or of harmful verdicts"}
            continue
        low, high = here[place].limits(confidence)
        p = p_equal(here[place], vanilla[place]) if vanilla and made != reference else None
        yield row | {"value": here[place].share, "low": low, "high": high, "p": p}
