"""Writes the answers at the top of the report: sentences with numbers from the tables."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from unharm.analysis.measures import FIRST_METRICS
from unharm.core.arms import VIM_STAGES, has_profile
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
    """Return one sentence per arm: which harms differ significantly from vanilla, and by how much."""
    sentences = []
    rows = comparison_rows(comparisons)["vanilla"]
    first = study.strategies[0]
    for arm in injected_first(study.arms):
        arm_rows = [
            r for r in rows if r["arm"] == arm and r["strategy"] == first and r["value"] is not None
        ]
        if not arm_rows:
            continue
        changed = significant(arm_rows, study.analysis.fdr)
        mark = " †" if arm_rows[0]["stand_in"] else ""
        if not changed:
            sentences.append(
                f"{arm} does not differ significantly from vanilla in any harm{mark} (0 of {len(arm_rows)} "
                f"metrics on the same prompts; Holm, {study.analysis.fdr:g})."
            )
            continue
        parts = []
        for verb, sign in (("raised", 1), ("lowered", -1)):
            selected = [r for r in changed if sign * r["value"] > 0]
            phrases = [
                f"{metric_name(r['metric'])} by {signed(abs(r['value']), is_share(r['metric']))[1:]}"
                f"{' points' if is_share(r['metric']) else ''} [{difference_interval(r)}]"
                for r in selected[:3]
            ]
            if phrases:
                parts.append(f"{verb} {', '.join(phrases)}")
        sentences.append(
            f"Against vanilla on the same prompts, {arm} {' and '.join(parts)}{mark} "
            f"({len(changed)} of {len(arm_rows)} metrics differ; Holm, {study.analysis.fdr:g})."
        )
    return sentences


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


def halved_profiles(alignment: pl.DataFrame, arm: str, strategy: str) -> tuple[list[str], int]:
    """Return the profiles whose NMSE is at most half of vanilla's, and the number of profiles compared.

    Args:
        alignment: The alignment rows of one reading.
        arm: The arm to compare with vanilla.
        strategy: The strategy of both.
    """
    rows = alignment.filter(pl.col("strategy") == strategy)
    vanilla = rows.filter(pl.col("arm") == "vanilla").select("profile", vanilla="value")
    both = rows.filter(pl.col("arm") == arm).join(vanilla, on="profile").drop_nulls(["value", "vanilla"])
    return both.filter(pl.col("value") <= pl.col("vanilla") / 2)["profile"].to_list(), both.height


def _alignment(study: ReportedStudy, alignment: pl.DataFrame) -> list[str]:
    sentences = []
    strategy = study.strategies[0]
    for arm in injected_first(study.arms):
        chosen = preferred_reading(alignment, arm)
        part = chosen.filter((pl.col("arm") == arm) & (pl.col("strategy") == strategy))
        if not has_profile(arm) or not part.height:
            continue
        if not part["value"].count():
            sentences.append(
                f"It is unknown whether the alignment of {arm} worked: no rating could be read."
            )
            continue
        mean = number(part["value"].mean())
        half, total = halved_profiles(chosen, arm, strategy)
        source = "" if part["reading"][0] == "text" else ", read from the distribution over the answers"
        if total:
            outcome = "worked" if 2 * len(half) > total else "did not work for most profiles"
            sentences.append(
                f"The alignment of {arm} {outcome}: its distance to the target profile (NMSE, mean "
                f"{mean}{source}) is at most half of vanilla's for {len(half)} of {total} profiles."
            )
        else:
            sentences.append(f"The mean distance of {arm} to its target profiles (NMSE{source}) is {mean}.")
    return sentences


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
        text = (
            f"{arm}: of {part.height} correlations between a value and a harm over {n!s} profiles, "
            f"{significant_rows.height} are significant at a false discovery rate of {study.analysis.fdr:g}"
        )
        strongest = significant_rows.head(3).to_dicts()
        if strongest:
            named = [
                f"{r['schwartz_value']} with {harm_name(r['benchmark'], r['category'])} "
                f"(r = {r['value']:+.2f})"
                for r in strongest
            ]
            text += ": " + "; ".join(named)
        sentences.append(text + ".")
    return sentences
