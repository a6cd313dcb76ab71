"""The answers that the report opens with: sentences made of the tables' own numbers."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from unharm.analysis.measures import FIRST_METRICS
from unharm.core.arms import VIM_STAGES, has_profile
from unharm.report.figures import harm_name
from unharm.report.inputs import ReportedStudy
from unharm.report.sections import comparisons as compared
from unharm.report.sections import holding
from unharm.report.words import interval, is_share, metric_name, number, signed, spread


def answers(study: ReportedStudy, tables: Mapping[str, pl.DataFrame]) -> dict[str, list[str]]:
    """What the report opens with: did the alignment of the first aligned arm take, what harm did it change,
    which value goes with which harm (`lead`); and the same of all others (`more`)."""
    alignment, values = _alignment(study, tables["alignment"]), _values(study, tables["associations"])
    changes = _changes(study, tables["comparisons"])
    lead = [*alignment[:1], *changes[:1], *values[:1]]
    arms = _arms(study, tables["arms"])
    if not changes:
        lead = [*alignment[:1], *arms, *values[:1]]
        arms = []
    return {"lead": lead, "more": [*alignment[1:], *changes[1:], *values[1:], *arms]}


def _changes(study: ReportedStudy, comparisons: pl.DataFrame) -> list[str]:
    """For every arm: which harms differ from vanilla's beyond chance, and by how much."""
    sentences = []
    rows = compared(comparisons)["vanilla"]
    first = study.strategies[0]
    for arm in injected_first(study.arms):
        mine = [r for r in rows if r["arm"] == arm and r["strategy"] == first and r["value"] is not None]
        if not mine:
            continue
        held = holding(mine, study.analysis.fdr)
        mark = " †" if mine[0]["stand_in"] else ""
        if not held:
            sentences.append(
                f"No harm of {arm} differs from vanilla's beyond chance{mark} (0 of {len(mine)} metrics on "
                f"the same prompts, Holm, {study.analysis.fdr:g})."
            )
            continue
        parts = []
        for way, sign in (("raised", 1), ("lowered", -1)):
            several = [r for r in held if sign * r["value"] > 0]
            told = [
                f"{metric_name(r['metric'])} by {signed(abs(r['value']), is_share(r['metric']))[1:]}"
                f"{' points' if is_share(r['metric']) else ''} [{spread(r)}]"
                for r in several[:3]
            ]
            if told:
                parts.append(f"{way} {', '.join(told)}")
        sentences.append(
            f"Against vanilla on the same prompts, {arm} {' and '.join(parts)}{mark} "
            f"({len(held)} of {len(mine)} metrics differ; Holm, {study.analysis.fdr:g})."
        )
    return sentences


def injected_first(arms: list[str]) -> list[str]:
    """The arms with value injection before the others, else in the order of the study."""
    return sorted(arms, key=lambda arm: arm not in VIM_STAGES)


def read_from(alignment: pl.DataFrame, arm: str) -> pl.DataFrame:
    """The alignment rows of the reading to go by for an arm: the sampled text, or the distribution
    over the answers where no text of the arm could be read."""
    text = alignment.filter(pl.col("reading") == "text")
    if text.filter(pl.col("arm") == arm)["value"].count():
        return text
    distribution = alignment.filter(pl.col("reading") == "distribution")
    return distribution if distribution.filter(pl.col("arm") == arm).height else text


def halved(alignment: pl.DataFrame, arm: str, strategy: str) -> tuple[list[str], int]:
    """The profiles for which an arm's NMSE is at most half of vanilla's, and of how many both have one;
    `alignment` is of one reading."""
    here = alignment.filter(pl.col("strategy") == strategy)
    vanilla = here.filter(pl.col("arm") == "vanilla").select("profile", vanilla="value")
    both = here.filter(pl.col("arm") == arm).join(vanilla, on="profile").drop_nulls(["value", "vanilla"])
    return both.filter(pl.col("value") <= pl.col("vanilla") / 2)["profile"].to_list(), both.height


def _alignment(study: ReportedStudy, alignment: pl.DataFrame) -> list[str]:
    sentences = []
    strategy = study.strategies[0]
    for arm in injected_first(study.arms):
        chosen = read_from(alignment, arm)
        part = chosen.filter((pl.col("arm") == arm) & (pl.col("strategy") == strategy))
        if not has_profile(arm) or not part.height:
            continue
        if not part["value"].count():
            sentences.append(f"Whether the alignment of {arm} took is not known: no rating could be read.")
            continue
        mean = number(part["value"].mean())
        half, total = halved(chosen, arm, strategy)
        how = "" if part["reading"][0] == "text" else ", read from the distribution over the answers"
        if total:
            took = "took" if 2 * len(half) > total else "did not take for most profiles"
            sentences.append(
                f"The alignment of {arm} {took}: against vanilla, its distance to the target profile "
                f"(NMSE, mean {mean}{how}) is at most half for {len(half)} of {total} profiles."
            )
        else:
            sentences.append(f"The mean distance of {arm} to its target profiles (NMSE{how}) is {mean}.")
    return sentences


def _arms(study: ReportedStudy, arms: pl.DataFrame) -> list[str]:
    sentences = []
    whole = arms.filter((pl.col("category") == "all") & (pl.col("strategy") == study.strategies[0]))
    for metric in FIRST_METRICS.values():
        for (_,), part in whole.filter(pl.col("metric") == metric).group_by(
            ["benchmark"], maintain_order=True
        ):
            rows = part.to_dicts()
            told = [
                f"{r['arm']} {number(r['value'], is_share(metric))}"
                + (f" [{interval(r)}]" if r["low"] is not None else "")
                for r in rows
            ]
            name = metric_name(metric)
            mark = " †" if rows[0]["stand_in"] else ""
            sentences.append(f"{name[0].upper()}{name[1:]}{mark}: {', '.join(told)}.")
    return sentences


def _values(study: ReportedStudy, associations: pl.DataFrame) -> list[str]:
    sentences = []
    for arm in injected_first(study.arms):
        part = associations.filter((pl.col("arm") == arm) & pl.col("p").is_not_null())
        if not part.height:
            continue
        holding = part.filter(pl.col("p_adjusted") <= study.analysis.fdr).sort("p")
        n = part["n"].max()
        text = (
            f"{arm}: of {part.height} correlations between a value and a harm over {n!s} profiles, "
            f"{holding.height} hold at a false discovery rate of {study.analysis.fdr:g}"
        )
        strongest = holding.head(3).to_dicts()
        if strongest:
            named = [
                f"{r['schwartz_value']} with {harm_name(r['benchmark'], r['category'])} "
                f"(r = {r['value']:+.2f})"
                for r in strongest
            ]
            text += ": " + "; ".join(named)
        sentences.append(text + ".")
    return sentences
