"""Which value goes with which harm, over profiles: rank correlations, regressions, and stated
hypotheses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from unharm.analysis.correlations import (
    AXES,
    Coefficient,
    bootstrapped,
    inflation,
    on_axes,
    pearson,
    rank_correlations,
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


@dataclass(frozen=True)
class Harms:
    """The first metric of every benchmark, by category where there are several, over the profiles of an arm
    and strategy: profiles × harms with NaN where one has no number. `about` names each harm."""

    arm: str
    strategy: str
    importances: Array
    values: Array
    about: list[dict[str, Any]]


def harms(subjects: pl.DataFrame, profiles: Sequence[Profile]) -> Iterator[Harms]:
    """The harms of every arm with profiles, from the table of subjects."""
    by_name = {p.name: p.importances for p in profiles}
    aligned = [arm for arm in subjects["arm"].unique() if has_profile(arm)]
    chosen = subjects.filter(pl.col("arm").is_in(aligned) & pl.col("metric").is_in(HARM_METRICS))
    for (arm, strategy), family in chosen.group_by(["arm", "strategy"], maintain_order=True):
        split = set(family.filter(pl.col("category") != ALL)["benchmark"])
        names = [n for n in by_name if n in set(family["profile"])]
        about, columns = [], []
        for (benchmark, category), part in family.group_by(["benchmark", "category"], maintain_order=True):
            if category == ALL and benchmark in split:
                continue
            row = part.row(0, named=True)
            found = dict(part.select("profile", "value").iter_rows())
            columns.append([float("nan") if found.get(n) is None else found[n] for n in names])
            about.append(
                {c: row[c] for c in (*METRIC, *SCORER)} | {"unscored": int(part["unscored"].sum())}
            )
        values = np.array(columns, dtype=float).T.reshape(len(names), len(about))
        importances = np.array([by_name[n] for n in names], dtype=float)
        yield Harms(str(arm), str(strategy), importances, values, about)


def associations_table(found: Sequence[Harms], confidence: float, seed: int) -> pl.DataFrame:
    """Spearman's rank correlation of each value's importance with each harm; the unit is the profile.

    p is adjusted by Benjamini-Hochberg over all tests of an arm and strategy. `low_check` and `high_check`
    are the bootstrap's; `pearson` stands beside it with its own bootstrap interval.
    """
    rows: list[dict[str, Any]] = []
    for harm in found:
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


def _tests(harm: Harms, columns: list[int], confidence: float, seed: int) -> Iterator[dict[str, Any]]:
    here = np.isfinite(harm.values[:, columns[0]])
    x, y = harm.importances[here], harm.values[here][:, columns]
    n = len(x)
    found = rank_correlations(x, y, confidence)
    ranks = stats.rankdata(x, axis=0), stats.rankdata(y, axis=0)
    enough = n >= 10
    nothing = np.full((x.shape[1], len(columns)), np.nan)
    low, high = bootstrapped(*ranks, confidence, seed) if enough else (nothing, nothing)
    plain = pearson(x, y) if n >= 3 else nothing
    plain_low, plain_high = bootstrapped(x, y, confidence, seed) if enough else (nothing, nothing)
    for j, column in enumerate(columns):
        for i, value in enumerate(VALUES):
            numbers = {
                "value": found.r, "low": found.low, "high": found.high, "p": found.p, "low_check": low,
                "high_check": high, "pearson": plain, "pearson_low": plain_low, "pearson_high": plain_high,
            }  # fmt: skip
            told = {name: _number(matrix[i, j]) for name, matrix in numbers.items()}
            if told["value"] is None:
                told = dict.fromkeys(told)
            yield (
                {"arm": harm.arm, "strategy": harm.strategy, **harm.about[column]}
                | {"schwartz_value": value, "n": n, "unit": "profile", "p_adjusted": None}
                | told
            )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def regressions_table(found: Sequence[Harms], confidence: float, seed: int) -> pl.DataFrame:
    """Every harm regressed on the two axes of the circle (with p, adjusted by Benjamini-Hochberg over an
    arm and strategy), and by ridge on the ten ipsatised values (no p; `inflation` is the variance
    inflation of the value among the profiles)."""
    rows: list[dict[str, Any]] = []
    for harm in found:
        tests: list[dict[str, Any]] = []
        for column, about in enumerate(harm.about):
            here = np.isfinite(harm.values[:, column])
            x, y = harm.importances[here], harm.values[here, column]
            told = {"arm": harm.arm, "strategy": harm.strategy, **about, "n": len(y), "unit": "profile"}
            by_axes = on_axes(x, y, confidence)
            for axis, c in zip(AXES, by_axes or [], strict=bool(by_axes)):
                tests.append(told | {"model": "axes", "term": axis, "inflation": None, **_terms(c)})
            factors = inflation(x)
            by_value = ridge(x, y, confidence, seed)
            for value, c, factor in zip(VALUES, by_value or [], factors, strict=bool(by_value)):
                rows.append(told | {"model": "ridge", "term": value, "inflation": factor, **_terms(c)})
        adjust_rows(tests, adjusted)
        rows += tests
    return pl.DataFrame(rows, schema=REGRESSIONS_SCHEMA)


def _terms(coefficient: Coefficient) -> dict[str, Any]:
    return asdict(coefficient) | {"p_adjusted": None}


def hypotheses_table(
    found: Sequence[Harms], stated: Sequence[Hypothesis], confidence: float, level: float
) -> pl.DataFrame:
    """Each hypothesis on each harm that it is about, judged by its pre-stated test: Spearman's correlation
    over the profiles of the first value-injected arm (or, without one, the first with profiles) has the
    sign that it says, one-sided p by Holm over all of them at `level`.

    `supported` where it holds, `contradicted` where the opposite sign would hold, else `not shown`; `not
    tested` where the study has no such harm, or no variance in it.
    """
    ordered = sorted(found, key=lambda h: h.arm not in VIM_STAGES)
    chosen = ordered[0] if ordered else None
    tests: list[dict[str, Any]] = []
    for claim in stated:
        columns = [
            n for n, about in enumerate(chosen.about if chosen else [])
            if claim.fits(about["benchmark"], about["category"])
        ]  # fmt: skip
        told = {
            "id": claim.id, "schwartz_value": claim.value, "harm": claim.harm, "sign": claim.sign,
            "source": claim.source, "arm": chosen.arm if chosen else "",
            "strategy": chosen.strategy if chosen else "", "p": None, "p_opposite": None,
            "unit": "profile",
        }  # fmt: skip
        for column in columns or [-1]:
            if chosen is None or column < 0:
                tests.append(told | {"benchmark": "", "category": "", "n": 0, "verdict": "not tested"})
                continue
            here = np.isfinite(chosen.values[:, column])
            place = VALUES.index(claim.value)
            x, y = chosen.importances[here][:, [place]], chosen.values[here][:, [column]]
            r = rank_correlations(x, y, confidence)
            value = _number(r.r[0, 0])
            about = chosen.about[column]
            row = told | {c: about[c] for c in ("benchmark", "category", *SCORER)} | {"n": r.n}
            row |= {"unscored": about["unscored"], "value": value, "verdict": "not tested"}
            row |= {"low": _number(r.low[0, 0]), "high": _number(r.high[0, 0])}
            if value is not None:
                right = (value > 0) == (claim.sign == "+")
                half = float(r.p[0, 0]) / 2
                row |= {"p": half if right else 1 - half, "p_opposite": 1 - half if right else half}
            tests.append(row)
    known = [t for t in tests if t["p"] is not None]
    for field, name in (("p", "supported"), ("p_opposite", "contradicted")):
        for test, p in zip(known, holm([t[field] for t in known]), strict=True):
            test[f"{field}_adjusted"] = p
            if p <= level:
                test["verdict"] = name
    for test in known:
        if test["verdict"] == "not tested":
            test["verdict"] = "not shown"
    return pl.DataFrame(tests, schema=HYPOTHESES_SCHEMA)
