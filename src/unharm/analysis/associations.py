"""Which value goes with which harm, over profiles: rank correlations, regressions, and stated
hypotheses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from unharm.analysis.clustered_ranks import Associated, associate, shared_part, standard_ranks
from unharm.analysis.correlations import (
    AXES,
    Coefficient,
    inflation,
    on_axes,
    pearson,
    ridge,
)
from unharm.analysis.hypotheses import Hypothesis
from unharm.analysis.intervals import adjust_rows, adjusted, holm
from unharm.analysis.measures import HARM_METRICS
from unharm.analysis.metrics import ALL
from unharm.analysis.schemas import (
    ASSOCIATIONS_SCHEMA,
    HYPOTHESES_SCHEMA,
    METRIC,
    REGRESSIONS_SCHEMA,
    SCORER,
)
from unharm.core.arms import VIM_STAGES, has_profile
from unharm.core.records import Profile
from unharm.core.values import VALUES

Array = np.ndarray

SEED_LEVEL = 0.05
"""The level at which an association is said to hold in a single seed."""


@dataclass(frozen=True)
class Harms:
    """The first metric of every benchmark, by category where there are several, over the profiles of an arm
    and strategy.

    Attributes:
        arm, strategy: Whose harms.
        importances: [profiles, values].
        values: [profiles, harms], the mean over seeds; NaN where a profile has no number.
        labels: What each harm is: benchmark, category, metric, scorer, completions without a score.
        targets: The target of each profile; each profile is its own where this is empty.
        by_seed: [seeds, profiles, harms] where there are several seeds.
        profiles: The name of each profile.
    """

    arm: str
    strategy: str
    importances: Array
    values: Array
    labels: list[dict[str, Any]]
    targets: tuple[str, ...] = ()
    by_seed: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    profiles: tuple[str, ...] = ()

    def clusters(self, rows: Array) -> Array:
        """The cluster of each of some profiles, numbered from 0."""
        if not self.targets:
            return np.arange(int(rows.sum()))
        return np.unique(np.asarray(self.targets)[rows], return_inverse=True)[1]


def harms(subjects: pl.DataFrame, profiles: Sequence[Profile]) -> Iterator[Harms]:
    """The harms of every arm with profiles, from the table of subjects."""
    by_name = {p.name: p for p in profiles}
    aligned = [arm for arm in subjects["arm"].unique() if has_profile(arm)]
    chosen = subjects.filter(pl.col("arm").is_in(aligned) & pl.col("metric").is_in(HARM_METRICS))
    for (arm, strategy), family in chosen.group_by(["arm", "strategy"], maintain_order=True):
        split = set(family.filter(pl.col("category") != ALL)["benchmark"])
        names = [n for n in by_name if n in set(family["profile"])]
        seeds = sorted(family["seed"].drop_nulls().unique()) if "seed" in family.columns else []
        labels, columns = [], []
        for (benchmark, category), part in family.group_by(["benchmark", "category"], maintain_order=True):
            if category == ALL and benchmark in split:
                continue
            row = part.row(0, named=True)
            column = [_by_profile(part, names)]
            if len(seeds) > 1:
                column += [_by_profile(part.filter(pl.col("seed") == seed), names) for seed in seeds]
            columns.append(column)
            labels.append(
                {c: row[c] for c in (*METRIC, *SCORER)} | {"unscored": int(part["unscored"].sum())}
            )
        values = np.array(columns, dtype=float).reshape(len(labels), -1, len(names)).transpose(1, 2, 0)
        importances = np.array([by_name[n].importances for n in names], dtype=float)
        targets = tuple(by_name[n].target for n in names)
        yield Harms(
            str(arm), str(strategy), importances, values[0], labels, targets, values[1:], tuple(names)
        )


def _by_profile(part: pl.DataFrame, names: Sequence[str]) -> list[float]:
    """The mean over seeds of each profile's value; NaN where there is none."""
    means = dict(part.group_by("profile").agg(pl.col("value").mean()).iter_rows())
    return [float("nan") if means.get(n) is None else means[n] for n in names]


def associations_table(arms: Sequence[Harms], confidence: float, seed: int) -> pl.DataFrame:
    """The rank correlation of each value's importance with each harm, marginal and given the other values.

    Unit: profile, weighted for what near copies of a target share (`clustered_ranks`). p is adjusted by
    Benjamini-Hochberg over all tests of an arm and strategy. `partial` has no p: it says which of several
    collinear values the association belongs to. `seeds_hold` counts the seeds in which the correlation
    alone has the same sign and p of at most 0.05.
    """
    rows: list[dict[str, Any]] = []
    for harm in arms:
        tests = [test for group in _complete(harm.values) for test in _tests(harm, group, confidence, seed)]
        adjust_rows(tests, adjusted)
        rows += tests
    return pl.DataFrame(rows, schema=ASSOCIATIONS_SCHEMA)


def _complete(values: Array) -> Iterator[list[int]]:
    """Columns that have a number for the same profiles, so that they are computed together."""
    groups: dict[bytes, list[int]] = {}
    for place in range(values.shape[1]):
        groups.setdefault(np.isfinite(values[:, place]).tobytes(), []).append(place)
    yield from groups.values()


def _related(harm: Harms, columns: list[int], confidence: float, seed: int, values: Array) -> Associated:
    """Every value with some harms that have numbers for the same profiles."""
    here = np.isfinite(values[:, columns[0]])
    x, y = harm.importances[here], values[here][:, columns]
    groups = [harm.labels[c]["benchmark"] for c in columns]
    return associate(x, y, harm.clusters(here), groups, confidence, seed)


def _tests(harm: Harms, columns: list[int], confidence: float, seed: int) -> Iterator[dict[str, Any]]:
    known = np.isfinite(harm.values[:, columns[0]])
    x, y = harm.importances[known], harm.values[known][:, columns]
    related = _related(harm, columns, confidence, seed, harm.values)
    plain = pearson(x, y) if len(x) >= 3 else np.full((x.shape[1], len(columns)), np.nan)
    holds = _seeds_holding(harm, columns, confidence, seed, related)
    matrices = {
        "value": related.r, "low": related.low, "high": related.high, "p": related.p,
        "partial": related.partial, "partial_low": related.partial_low,
        "partial_high": related.partial_high, "pearson": plain,
    }  # fmt: skip
    numbers = {name: _numbers(matrix) for name, matrix in matrices.items()}
    for j, column in enumerate(columns):
        for i, value in enumerate(VALUES):
            row: dict[str, Any] = {name: rows[i][j] for name, rows in numbers.items()}
            if row["value"] is None:
                row = dict.fromkeys(row)
            note = related.note or ("" if row["value"] is not None else "nothing varies")
            yield (
                {"arm": harm.arm, "strategy": harm.strategy, **harm.labels[column]}
                | {"schwartz_value": value, "n": related.n, "unit": "profile", "p_adjusted": None}
                | {"targets": related.targets, "shared": float(related.shared[j]), "note": note}
                | {"least_p": float(related.least_p[i]), "seeds": max(len(harm.by_seed), 1)}
                | {"seeds_hold": int(holds[i, j]) if holds is not None else None}
                | row
            )


def _numbers(matrix: Array) -> list[list[float | None]]:
    """Return the rows of a matrix, with None in place of NaN."""
    return [[value if math.isfinite(value) else None for value in row] for row in matrix.tolist()]


def _seeds_holding(
    harm: Harms, columns: list[int], confidence: float, seed: int, together: Associated
) -> Array | None:
    """In how many seeds each correlation has the sign of all together and p of at most `SEED_LEVEL`."""
    if not len(harm.by_seed) or together.note:
        return None
    holds = np.zeros(together.r.shape, dtype=int)
    for values in harm.by_seed:
        if np.isfinite(values[:, columns]).all(axis=1).sum() < together.n:
            continue
        one = _related(harm, columns, confidence, seed, np.where(np.isfinite(values), values, np.nan))
        with np.errstate(invalid="ignore"):
            holds += (np.sign(one.r) == np.sign(together.r)) & (one.p <= SEED_LEVEL)
    return holds


def regressions_table(arms: Sequence[Harms], confidence: float) -> pl.DataFrame:
    """Every harm regressed on the two axes of the circle (with p, adjusted by Benjamini-Hochberg over an
    arm and strategy), and by ridge on the ten ipsatised values (neither p nor interval; `inflation` is the
    variance inflation of the value among the profiles)."""
    rows: list[dict[str, Any]] = []
    for harm in arms:
        tests: list[dict[str, Any]] = []
        for columns in _complete(harm.values):
            known = np.isfinite(harm.values[:, columns[0]])
            x, y, clusters = harm.importances[known], harm.values[known][:, columns], harm.clusters(known)
            groups = [harm.labels[c]["benchmark"] for c in columns]
            empty = np.zeros(len(columns))
            shared = (
                shared_part(standard_ranks(y), clusters, groups, standard_ranks(x)) if len(x) else empty
            )
            factors, by_value = inflation(x), ridge(x, y)
            by_axes: list[list[Coefficient] | None] = [None] * len(columns)
            for rho in np.unique(shared):
                places = np.flatnonzero(shared == rho)
                some = on_axes(x, y[:, places], clusters, float(rho), confidence)
                for place, coefficients in zip(places.tolist(), some, strict=True):
                    by_axes[place] = coefficients
            for place, column in enumerate(columns):
                row = {"arm": harm.arm, "strategy": harm.strategy, **harm.labels[column]}
                row |= {"n": len(y), "unit": "profile", "p_adjusted": None}
                for axis, c in zip(AXES, by_axes[place] or [], strict=bool(by_axes[place])):
                    tests.append(row | {"model": "axes", "term": axis, "inflation": None, **vars(c)})
                slopes = by_value[place]
                for value, c, factor in zip(VALUES, slopes or [], factors, strict=bool(slopes)):
                    rows.append(row | {"model": "ridge", "term": value, "inflation": factor, **vars(c)})
        adjust_rows(tests, adjusted)
        rows += tests
    return pl.DataFrame(rows, schema=REGRESSIONS_SCHEMA)


def hypotheses_table(
    arms: Sequence[Harms], stated: Sequence[Hypothesis], confidence: float, level: float, seed: int
) -> pl.DataFrame:
    """Each hypothesis on each harm that it is about, over the profiles of the first value-injected arm (or,
    without one, the first with profiles).

    The test is that of the associations, two-sided, so that one family of tests with one error rate covers
    both directions: p by Holm over all of them at `level`. `supported` where the correlation differs from
    0 with the stated sign, `contradicted` where it differs with the other sign, else `not shown`; `not
    tested` where the study has no such harm, no variance in it, or too few profiles for any p.
    """
    ordered = sorted(arms, key=lambda h: h.arm not in VIM_STAGES)
    chosen = ordered[0] if ordered else None
    known = list(_tests_of(chosen, confidence, seed)) if chosen else []
    by_harm = {(t["benchmark"], t["category"], t["schwartz_value"]): t for t in known}
    tests: list[dict[str, Any]] = []
    for claim in stated:
        labels = [a for a in chosen.labels if claim.fits(a["benchmark"], a["category"])] if chosen else []
        row = {
            "id": claim.id, "schwartz_value": claim.value, "harm": claim.harm, "sign": claim.sign,
            "source": claim.source, "arm": chosen.arm if chosen else "",
            "strategy": chosen.strategy if chosen else "", "p": None, "p_adjusted": None, "unit": "profile",
            "verdict": "not tested",
        }  # fmt: skip
        for one in labels:
            test = by_harm[one["benchmark"], one["category"], claim.value]
            fields = (
                "benchmark",
                "category",
                *SCORER,
                "unscored",
                "n",
                "value",
                "low",
                "high",
                "p",
                "note",
            )
            more = {f: test[f] for f in (*fields, "seeds", "seeds_hold")}
            tests.append(row | more | {"verdict": "not tested" if test["p"] is None else "not shown"})
        if not labels:
            tests.append(row | {"benchmark": "", "category": "", "n": 0, "note": "not in this study"})
    adjust_rows(tests, holm)
    for test in tests:
        if test["p_adjusted"] is not None and test["p_adjusted"] <= level:
            test["verdict"] = (
                "supported" if (test["value"] > 0) == (test["sign"] == "+") else "contradicted"
            )
    return pl.DataFrame(tests, schema=HYPOTHESES_SCHEMA)


def _tests_of(harm: Harms, confidence: float, seed: int) -> Iterator[dict[str, Any]]:
    for group in _complete(harm.values):
        yield from _tests(harm, group, confidence, seed)
