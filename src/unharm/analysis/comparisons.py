"""Arms and strategies compared on the same prompts: one row per pair, metric and category."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.intervals import adjust_rows, adjusted, holm
from unharm.analysis.measures import FIRST_METRICS, bounds_of, of_quality
from unharm.analysis.metrics import ALL
from unharm.analysis.paired import Difference, Rows, differences
from unharm.analysis.schemas import COMPARISONS_SCHEMA
from unharm.analysis.settings import Analysis
from unharm.core.arms import CONTROLS, MATCHED_CONTROLS, VIM_STAGES, has_profile
from unharm.core.records import Subject

Array = np.ndarray
Made = tuple[str, str]
"""An arm and a strategy."""


NO_SEED = 0
"""The seed of a row of a study that trains one adapter per profile."""
DIFFERS, EQUIVALENT, UNDECIDED, NOT_TESTED = "differs", "equivalent", "undecided", "not tested"


@dataclass
class Cells:
    """The value of every metric by subject and unit: a prompt, or a group for the bias score.

    Attributes:
        units: The ids and categories of each metric's units.
        values: The rows of each arm and strategy by profile and seed: vectors over the units, NaN where one
            has no value.
        scorers: The scorer's columns of each benchmark.
        targets: The target of each profile.
    """

    units: dict[tuple[str, str], tuple[list[str], Array]] = field(default_factory=dict)
    values: dict[tuple[Made, str, str], dict[tuple[str, int], Array]] = field(default_factory=dict)
    scorers: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    _frames: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)

    def add(self, subject: Subject, benchmark: str, metric: str, values: pl.DataFrame) -> None:
        """Add the columns id, category, value of one subject; the units of a metric are those of the
        first subject that has it."""
        at = benchmark, metric
        if at not in self.units:
            ids, categories = values["id"].to_list(), values["category"].to_numpy()
            self.units[at] = ids, categories
            self._frames[at] = values.select("id")
        vector = self._frames[at].join(
            values.select("id", "value"), on="id", how="left", maintain_order="left"
        )
        by_unit = vector["value"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        made = subject.arm, subject.strategy
        row = subject.profile_name, NO_SEED if subject.seed is None else subject.seed
        self.values.setdefault((made, benchmark, metric), {})[row] = by_unit
        if subject.profile:
            self.targets[subject.profile_name] = subject.profile.target

    def rows(self, made: Made, benchmark: str, metric: str) -> Rows:
        """The rows of an arm and strategy. Near copies of one target form one cluster."""
        by_row = self.values[made, benchmark, metric]
        names = [name for name, _ in by_row]
        return Rows(
            np.stack(list(by_row.values())),
            tuple(self.targets.get(name, name) for name in names),
            tuple(names),
            tuple(seed for _, seed in by_row),
        )

    def categories(self, benchmark: str, metric: str) -> list[str]:
        """The categories of a metric's units, where there are several."""
        names = sorted({str(c) for c in self.units[benchmark, metric][1] if c})
        return names if len(names) > 1 else []


def pairs(arms: Sequence[str], strategies: Sequence[str]) -> Iterator[tuple[str, Made, Made]]:
    """Yield the kind and both sides of every comparison.

    Every two arms are compared under each strategy, the later or aligned one against the other. For every
    arm each further strategy is compared with the first, and with each other: a guard with a control, or
    the later guard with the earlier.
    """
    ordered = sorted(arms, key=lambda arm: (arm not in VIM_STAGES, not has_profile(arm), arm == "vanilla"))
    for strategy in strategies:
        for one, other in combinations(ordered, 2):
            yield "arms", (one, strategy), (other, strategy)
    for arm in arms:
        for strategy in strategies[1:]:
            yield "strategies", (arm, strategy), (arm, strategies[0])
        for earlier, later in combinations(strategies[1:], 2):
            one, other = (earlier, later) if later in CONTROLS else (later, earlier)
            if one not in CONTROLS:
                yield "strategies", (arm, one), (arm, other)


def family_of(kind: str, one: Made, other: Made, first: str, metric: str) -> str:
    """Return the name of the tests that a comparison is adjusted with; `first` is the first strategy."""
    if of_quality(metric):
        return "quality"
    if kind == "arms":
        return "arms" if other[0] == "vanilla" else "others"
    if other[1] == first:
        return "strategies"
    return "controls" if other[1] in CONTROLS else "between strategies"


def compared_by_category(kind: str, one: Made, other: Made, first: str) -> bool:
    """Whether two sides are compared by category too."""
    if kind == "arms":
        return other[0] == "vanilla"
    return other[1] == first or MATCHED_CONTROLS.get(one[1]) == other[1]


def comparisons_table(
    cells: Cells, arms: Sequence[str], strategies: Sequence[str], analysis: Analysis
) -> pl.DataFrame:
    """Differences of arms and of strategies, whole and by category.

    p is adjusted within its `family`: by Holm over the harms of whole benchmarks against vanilla, over
    those between other arms, over strategies against the first one, over guards against controls, over
    guards against each other, and over the quality of completions; by Benjamini-Hochberg over all
    categories (of the first metric, against vanilla, the first strategy or a guard's own control).
    `verdict` is `differs` where the adjusted p is at most `analysis.fdr`, `equivalent` where the interval
    lies within the margin, else `undecided`.
    """
    rows: list[dict[str, Any]] = []
    for kind, one, other in pairs(arms, strategies):
        for (benchmark, metric), (_, categories) in cells.units.items():
            if any((made, benchmark, metric) not in cells.values for made in (one, other)):
                continue
            if kind == "strategies" and of_quality(metric) and other[1] != strategies[0]:
                continue
            row = {
                "kind": kind, "arm": one[0], "strategy": one[1], "reference": other[0],
                "reference_strategy": other[1], "benchmark": benchmark, "metric": metric,
                **cells.scorers[benchmark],
            }  # fmt: skip
            family = family_of(kind, one, other, strategies[0], metric)
            sides = cells.rows(one, benchmark, metric), cells.rows(other, benchmark, metric)
            every = np.ones(len(categories), dtype=bool)
            bounds, confidence = bounds_of(metric), analysis.confidence
            unit = "profile × group" if metric == "bias_score" else "profile × prompt"
            of_metric = unit, analysis.margin_of(metric, bounds)
            whole = differences(*sides, [every], bounds, confidence)[0]
            rows.append(
                row | {"category": ALL, "family": family} | difference_row(whole, sides, every, *of_metric)
            )
            names = cells.categories(benchmark, metric)
            first_metric = metric in FIRST_METRICS.values()
            if names and first_metric and compared_by_category(kind, one, other, strategies[0]):
                masks = [categories == name for name in names]
                parts = differences(*sides, masks, bounds, confidence)
                for name, mask, part in zip(names, masks, parts, strict=True):
                    more = {"category": name, "family": f"{family} by category"}
                    rows.append(row | more | difference_row(part, sides, mask, *of_metric))
    for family in {r["family"] for r in rows}:
        adjust = adjusted if family.endswith("by category") else holm
        adjust_rows([r for r in rows if r["family"] == family], adjust)
    for row in rows:
        row["verdict"] = verdict_of(row, analysis.fdr)
    return pl.DataFrame(rows, schema=COMPARISONS_SCHEMA)


def verdict_of(row: dict[str, Any], level: float) -> str:
    """Return the verdict on a row whose p is adjusted; a row without a margin is never equivalent.

    `level` is the largest adjusted p of a difference.
    """
    if row["p"] is None:
        return NOT_TESTED
    if row["p_adjusted"] <= level:
        return DIFFERS
    margin = row.get("margin")
    inside = margin is not None and -margin <= row["low"] and row["high"] <= margin
    return EQUIVALENT if inside else UNDECIDED


def difference_row(
    difference: Difference, sides: tuple[Rows, Rows], mask: Array, unit: str, margin: float | None
) -> dict[str, Any]:
    """Return the numbers of a comparison as columns of `COMPARISONS_SCHEMA`.

    Args:
        difference: The difference of both sides over some prompts.
        sides: The scores of the arm and of its reference.
        mask: Which prompts these are [prompts].
        unit: What a cell is, such as `profile × prompt`.
        margin: The largest difference that does not matter, in points of the metric.
    """
    reference = sides[1].values[:, mask]
    spread = float(np.nanstd(reference)) if np.isfinite(reference).any() else 0.0
    size = max(len(side.values) for side in sides) * int(mask.sum())
    return {
        "value_arm": difference.one,
        "value_reference": difference.other,
        "value": difference.value,
        "low": difference.low,
        "high": difference.high,
        "n": difference.cells,
        "unit": unit,
        "unscored": max(size - difference.cells, 0),
        "profiles": difference.profiles,
        "targets": difference.targets,
        "seeds": difference.seeds,
        "seeds_hold": difference.seeds_hold,
        "units": difference.prompts,
        "effect": difference.value / spread if difference.value is not None and spread > 1e-9 else None,
        "p": difference.p,
        "p_adjusted": None,
        "margin": margin,
        "note": difference.note,
    }
