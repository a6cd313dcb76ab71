"""Writes the answers at the top of the report: sentences with numbers from the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from unharm.analysis.alignment import FLAT, TOOK, UNKNOWN
from unharm.analysis.intervals import mean_interval, share_interval
from unharm.analysis.measures import FIRST_METRICS
from unharm.core.arms import VIM_STAGES, has_profile
from unharm.core.records import Estimate
from unharm.report.figures import harm_name
from unharm.report.inputs import ReportedStudy
from unharm.report.sections import comparisons as comparison_rows
from unharm.report.sections import significant
from unharm.report.words import difference_interval, interval, is_share, metric_name, number, signed


def answers(study: ReportedStudy, tables: Mapping[str, pl.DataFrame]) -> dict[str, list[str]]:
    """Return the sentences at the top of the report.

    `lead` holds one sentence each for the first aligned arm: did the alignment work, which harms changed,
    which values correlate with which harms. `more` holds the sentences for all other arms.
    """
    alignment, values = _alignment(study, tables["alignment"]), _values(study, tables["associations"])
    changes = _changes(study, tables["comparisons"])
    lead = [*alignment[:1], *changes[:1], *values[:1]]
    arms = _arms(study, tables["arms"])
    if not changes:
        lead = [*alignment[:1], *arms, *values[:1]]
        arms = []
    return {"lead": lead, "more": [*alignment[1:], *changes[1:], *values[1:], *arms]}


def _changes(study: ReportedStudy, comparisons: pl.DataFrame) -> list[str]:
    """For every arm: which harms differ from vanilla's, which are equivalent within the margin, and which
    stay
    undecided; of whole benchmarks and of categories, so that the two cannot contradict each other."""
    sentences = []
    rows = comparison_rows(comparisons)["vanilla"]
    first = study.strategies[0]
    for arm in injected_first(study.arms):
        arm_rows = [
            r for r in rows if r["arm"] == arm and r["strategy"] == first and r["value"] is not None
        ]
        if not arm_rows:
            continue
        held = significant(arm_rows, study.analysis.fdr)
        mark = " †" if arm_rows[0]["stand_in"] else ""
        parts = []
        for way, sign in (("raised", 1), ("lowered", -1)):
            several = [r for r in held if sign * r["value"] > 0]
            shown = [
                f"{metric_name(r['metric'])} by {signed(abs(r['value']), is_share(r['metric']))[1:]}"
                f"{' points' if is_share(r['metric']) else ''} [{difference_interval(r)}]{_in_seeds(r)}"
                for r in several[:3]
            ]
            if shown:
                parts.append(f"{way} {', '.join(shown)}")
        if parts:
            text = f"Against vanilla on the same prompts, {arm} {' and '.join(parts)}{mark}"
        else:
            text = f"No difference of {arm} from vanilla is shown on whole benchmarks{mark}"
        counts = {v: sum(r["verdict"] == v for r in arm_rows) for v in VERDICTS}
        named = ", ".join(f"{n} {VERDICTS[v]}" for v, n in counts.items() if n)
        text += f" (of {len(arm_rows)} metrics {named}; Holm, {study.analysis.fdr:g})."
        sentences.append(text + _categories(comparisons, arm, first) + _one_seed(arm_rows, arm))
    return sentences


VERDICTS = {
    "differs": "differ",
    "equivalent": "equivalent within the margin",
    "undecided": "undecided",
    "not tested": "not tested",
}


CATEGORY_VERDICTS = {
    "equivalent": "equivalent within the margin",
    "undecided": "undecided",
    "not tested": "with too few prompts to tell",
}


def _in_seeds(row: dict[str, Any], before: str = "") -> str:
    """In how many seeds a discovery holds alone, in brackets or after a text."""
    if (row["seeds"] or 1) < 2:
        return ""
    text = f"in {row['seeds_hold']} of {row['seeds']} seeds"
    return before + text if before else f" ({text})"


def _categories(comparisons: pl.DataFrame, arm: str, strategy: str) -> str:
    """Say which categories of an arm differ from vanilla, and how many are equivalent, undecided or have
    too few prompts."""
    here = comparisons.filter(
        (pl.col("family") == "arms by category")
        & (pl.col("arm") == arm)
        & (pl.col("strategy") == strategy)
        & (pl.col("reference") == "vanilla")
    )
    if not here.height:
        return ""
    counts = dict(here.group_by("verdict").len().iter_rows())
    named = [f"{counts[v]} {name}" for v, name in CATEGORY_VERDICTS.items() if counts.get(v)]
    text = f" By category {counts.get('differs', 0)} of {here.height} differ"
    differing = here.filter(pl.col("verdict") == "differs").sort("p").head(3).to_dicts()
    if differing:
        shown = [
            f"{harm_name(r['benchmark'], r['category'])} {signed(r['value'], is_share(r['metric']))}"
            f"{' points' if is_share(r['metric']) else ''}"
            for r in differing
        ]
        text += f" ({', '.join(shown)})"
    return f"{text}; {', '.join(named)}." if named else f"{text}."


def _one_seed(rows: list[dict[str, Any]], arm: str) -> str:
    """What one seed cannot show, for arms that are trained."""
    if not (arm in VIM_STAGES or arm.startswith("benign:")) or any((r["seeds"] or 1) > 1 for r in rows):
        return ""
    return " One training seed: the interval leaves out how far another would move all adapters of the arm."


def injected_first(arms: list[str]) -> list[str]:
    """Return the arms with the value-injected arms first, otherwise in the order of the study."""
    return sorted(arms, key=lambda arm: arm not in VIM_STAGES)


def preferred_reading(alignment: pl.DataFrame, arm: str) -> pl.DataFrame:
    """Return the alignment rows of the reading to report for an arm.

    This is the sampled text. If no sampled text of the arm contains a rating, it is the distribution over
    the answers.
    """
    text = alignment.filter(pl.col("reading") == "text")
    if text.filter(pl.col("arm") == arm)["value"].count():
        return text
    distribution = alignment.filter(pl.col("reading") == "distribution")
    return distribution if distribution.filter(pl.col("arm") == arm).height else text


def _taken(took: int, flat: int, profiles: int, skill: Estimate) -> str:
    """Whether the alignment of an arm took: most profiles pass, and the mean skill lies above 0."""
    if 2 * flat > profiles:
        return "did not take: it rates everything alike"
    if 2 * took <= profiles:
        return "did not take for most profiles"
    if skill.low is None or skill.low <= 0:
        return "took for most profiles, but the mean skill is not shown to be above 0"
    return "took"


def _alignment(study: ReportedStudy, alignment: pl.DataFrame) -> list[str]:
    """Whether the alignment of each arm took: by skill over the best constant, correlation, retrieval."""
    sentences = []
    for arm in injected_first(study.arms):
        chosen = preferred_reading(alignment, arm)
        part = chosen.filter((pl.col("arm") == arm) & (pl.col("strategy") == study.strategies[0]))
        if not has_profile(arm) or not part.height:
            continue
        known = part.filter(pl.col("verdict") != UNKNOWN)
        if not known.height:
            sentences.append(f"Whether the alignment of {arm} took is not known: no rating could be read.")
            continue
        counts = dict(known.group_by("verdict").len().iter_rows())
        took, flat = counts.get(TOOK, 0), counts.get(FLAT, 0)
        skills = known["skill"].drop_nulls().to_list()
        # skill has no lower bound, and is 1 at most
        skill = mean_interval(skills, study.analysis.confidence, "profile", bounds=(-math.inf, 1.0))
        verdict = _taken(took, flat, known.height, skill)
        how = "" if part["reading"][0] == "text" else ", read from the distribution over the answers"
        retrieved = known["retrieved"].drop_nulls()
        correlations = known["correlation"].drop_nulls().to_list()
        correlation = mean_interval(correlations, study.analysis.confidence, "profile", bounds=(-1.0, 1.0))
        text = (
            f"The alignment of {arm} {verdict}{how}: {took} of {known.height} profiles pass; mean skill "
            f"over the best constant answer {number(skill.value)}{_bounds(skill)}; mean correlation of "
            f"centred ratings {number(correlation.value)}{_bounds(correlation)}"
        )
        if len(retrieved):
            hits, count = int(retrieved.sum()), len(retrieved)
            share = share_interval(hits, count, study.analysis.confidence, "profile")
            text += f"; the own target is the nearest for {hits} of {count}{_bounds(share, share=True)}"
        if flat:
            text += f"; {flat} rate everything alike"
        nmse, constant = number(known["value"].mean()), number(known["constant_nmse"].mean())
        sentences.append(f"{text}. Mean NMSE {nmse}, that of the best constant answer {constant}.")
    return sentences


def _bounds(estimate: Estimate, share: bool = False) -> str:
    """Return the interval of an estimate in brackets; empty where it has none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{number(estimate.low, share)} to {number(estimate.high, share)}]"


def _arms(study: ReportedStudy, arms: pl.DataFrame) -> list[str]:
    sentences = []
    whole = arms.filter((pl.col("category") == "all") & (pl.col("strategy") == study.strategies[0]))
    for metric in FIRST_METRICS.values():
        for (_,), part in whole.filter(pl.col("metric") == metric).group_by(
            ["benchmark"], maintain_order=True
        ):
            rows = part.to_dicts()
            estimates = [
                f"{r['arm']} {number(r['value'], is_share(metric))}"
                + (f" [{interval(r)}]" if r["low"] is not None else "")
                for r in rows
            ]
            name = metric_name(metric)
            mark = " †" if rows[0]["stand_in"] else ""
            sentences.append(f"{name[0].upper()}{name[1:]}{mark}: {', '.join(estimates)}.")
    return sentences


def _values(study: ReportedStudy, associations: pl.DataFrame) -> list[str]:
    sentences = []
    for arm in injected_first(study.arms):
        part = associations.filter((pl.col("arm") == arm) & pl.col("p").is_not_null())
        if not part.height:
            continue
        significant_rows = part.filter(pl.col("p_adjusted") <= study.analysis.fdr).sort("p")
        n = part["n"].max()
        floor = min(part["least_p"].drop_nulls().to_list(), default=0.0)
        if not significant_rows.height and floor > study.analysis.fdr / part.height:
            sentences.append(
                f"{arm}: {n!s} profiles with these ties cannot show which value goes with which harm "
                f"(no p below {floor:.2g} over {part.height} tests); the correlations are descriptive."
            )
            continue
        text = (
            f"{arm}: of {part.height} correlations between a value and a harm over {n!s} profiles, "
            f"{significant_rows.height} are significant at a false discovery rate of {study.analysis.fdr:g}"
        )
        strongest = significant_rows.head(3).to_dicts()
        if strongest:
            named = [
                f"{r['schwartz_value']} with {harm_name(r['benchmark'], r['category'])} "
                f"(r = {r['value']:+.2f}{_in_seeds(r, ', ')})"
                for r in strongest
            ]
            text += ": " + "; ".join(named)
        sentences.append(text + ".")
    return sentences
