"""Arms and strategies compared on the same prompts: one row per pair, metric and category."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.intervals import adjust_rows, adjusted, holm
from unharm.analysis.measures import FIRST_METRICS, of_quality
from unharm.analysis.metrics import ALL
from unharm.analysis.paired import Difference, difference
from unharm.analysis.schemas import COMPARISONS_SCHEMA
from unharm.core.arms import VIM_STAGES, has_profile
from unharm.core.records import Subject

Array = np.ndarray
Made = tuple[str, str]
"""An arm and a strategy."""


@dataclass
class Cells:
    """The value of every metric by subject and unit: a prompt, or a group for the bias score. `units` has
    the ids and categories of each metric's units, `values` the profiles of each arm and strategy with their
    vectors over these units, NaN where one has no value."""

    units: dict[tuple[str, str], tuple[list[str], Array]] = field(default_factory=dict)
    values: dict[tuple[Made, str, str], dict[str, Array]] = field(default_factory=dict)
    scorers: dict[str, dict[str, Any]] = field(default_factory=dict)
    _frames: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)

    def add(self, subject: Subject, benchmark: str, metric: str, found: pl.DataFrame) -> None:
        """Takes the columns id, category, value of one subject; the units of a metric are those of the
        first subject that has it."""
        at = benchmark, metric
        if at not in self.units:
            ids, categories = found["id"].to_list(), found["category"].to_numpy()
            self.units[at] = ids, categories
            self._frames[at] = found.select("id")
        vector = self._frames[at].join(
            found.select("id", "value"), on="id", how="left", maintain_order="left"
        )
        values = vector["value"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
        made = subject.arm, subject.strategy
        self.values.setdefault((made, benchmark, metric), {})[subject.profile_name] = values

    def matrix(self, one: Made, other: Made, benchmark: str, metric: str) -> tuple[Array, Array, Array]:
        """The cells of both and their difference, profiles × units: those profiles that both have, or
        all of the one that has profiles."""
        first, second = (self.values[made, benchmark, metric] for made in (one, other))
        names = [n for n in first if n in second] if "" not in first and "" not in second else None
        a = np.stack([first[n] for n in (names if names is not None else first)] or [np.zeros(0)])
        b = np.stack([second[n] for n in (names if names is not None else second)] or [np.zeros(0)])
        return a, b, a.astype(float) - b.astype(float)


def pairs(arms: Sequence[str], strategies: Sequence[str]) -> Iterator[tuple[str, Made, Made]]:
    """What is compared: every two arms under each strategy, the later or aligned one against the other; and
    for every arm each further strategy against the first."""
    ordered = sorted(arms, key=lambda arm: (arm not in VIM_STAGES, not has_profile(arm), arm == "vanilla"))
    for strategy in strategies:
        for one, other in combinations(ordered, 2):
            yield "arms", (one, strategy), (other, strategy)
    for arm in arms:
        for strategy in strategies[1:]:
            yield "strategies", (arm, strategy), (arm, strategies[0])


def comparisons_table(
    cells: Cells, arms: Sequence[str], strategies: Sequence[str], confidence: float, seed: int | None
) -> pl.DataFrame:
    """Differences of arms and of strategies, whole and by category.

    p is adjusted within its `family`: by Holm over the harms of whole benchmarks against vanilla, over
    those between other arms, over those of strategies, and over the quality of completions; by
    Benjamini-Hochberg over all categories (of the first metric, against vanilla or the first strategy).
    """
    rows: list[dict[str, Any]] = []
    for kind, one, other in pairs(arms, strategies):
        for (benchmark, metric), (_, categories) in cells.units.items():
            if any((made, benchmark, metric) not in cells.values for made in (one, other)):
                continue
            a, b, d = cells.matrix(one, other, benchmark, metric)
            told = {
                "kind": kind, "arm": one[0], "strategy": one[1], "reference": other[0],
                "reference_strategy": other[1], "benchmark": benchmark, "metric": metric,
                **cells.scorers[benchmark],
            }  # fmt: skip
            against = other[0] == "vanilla" or kind == "strategies"
            found = difference(d, confidence, seed if against else None)
            family = "quality" if of_quality(metric) else kind if kind != "arms" or against else "others"
            row = _row(found, a, b, metric, d.size)
            rows.append(told | {"category": ALL, "family": family} | row)
            names = [str(c) for c in np.unique(categories) if c]
            if against and metric in FIRST_METRICS.values() and len(names) > 1:
                for name in names:
                    here = categories == name
                    part = difference(d[:, here], confidence)
                    row = _row(part, a[:, here], b[:, here], metric, int(d[:, here].size))
                    rows.append(told | {"category": name, "family": f"{kind} by category"} | row)
    for family in {r["family"] for r in rows}:
        adjust = adjusted if family.endswith("by category") else holm
        adjust_rows([r for r in rows if r["family"] == family], adjust)
    return pl.DataFrame(rows, schema=COMPARISONS_SCHEMA)


def _row(found: Difference, a: Array, b: Array, metric: str, size: int) -> dict[str, Any]:
    spread = float(np.nanstd(b)) if np.isfinite(b).any() else 0.0
    return {
        "value_arm": _mean(a),
        "value_reference": _mean(b),
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "unit": "profile × group" if metric == "bias_score" else "profile × prompt",
        "unscored": size - found.n,
        "profiles": found.profiles,
        "units": found.prompts,
        "effect": found.value / spread if found.value is not None and spread > 1e-9 else None,
        "p": found.p,
        "p_adjusted": None,
        "low_check": found.low_check,
        "high_check": found.high_check,
    }


def _mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=float)) if len(known) else None
