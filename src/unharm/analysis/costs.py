"""What an arm costs: perplexity and coherence on neutral text, and refusals of harmless questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from unharm.analysis.intervals import mean_interval, share_interval
from unharm.analysis.schemas import COSTS_SCHEMA
from unharm.benchmarks.registry import NEUTRAL
from unharm.core.records import Estimate, Prompt, Subject
from unharm.scoring.coherence import NOISE

PERPLEXITY, INCOHERENT, REFUSALS = "perplexity", "incoherent", "refusals of harmless"
LARGEST = 50.0
"""Largest logarithm of a perplexity ratio that is shown as a number."""


@dataclass
class NeutralTexts:
    """What is read of one subject on neutral texts.

    Attributes:
        surprise: Nats per word by text; None where the probability is not known or is 0.
        incoherent: Whether each completion is incoherent.
    """

    surprise: dict[str, float | None] = field(default_factory=dict)
    incoherent: list[bool] = field(default_factory=list)


def neutral_texts(
    completions: pl.DataFrame, scores: pl.DataFrame, prompts: Sequence[Prompt]
) -> NeutralTexts:
    """Return what is read of one subject.

    Args:
        completions: Columns prompt_id and options, the probability of the continuation.
        scores: Column flag.
        prompts: The neutral texts, each with its continuation.
    """
    options = dict(completions.select("prompt_id", "options").iter_rows())
    surprise: dict[str, float | None] = {}
    for prompt in prompts:
        chances = options.get(prompt.id) or [0.0]
        words = len(prompt.options[0].split())
        surprise[prompt.id] = -math.log(chances[0]) / words if chances[0] > 0 else None
    return NeutralTexts(surprise, [flag in NOISE for flag in scores["flag"]])


def costs_table(
    readings: Mapping[Subject, NeutralTexts], arms: pl.DataFrame, confidence: float
) -> pl.DataFrame:
    """Return the costs of every arm and strategy beside those of vanilla under the first strategy.

    `perplexity` is that of the continuations per word, as a multiple of vanilla's (geometric mean); its
    interval is over targets for arms with profiles, else over texts. `value_vanilla` is vanilla's own
    perplexity. `incoherent` is a share of completions. `refusals of harmless` repeat the table of arms.

    Args:
        readings: What is read on neutral texts, by subject.
        arms: The table `arms`.
        confidence: Confidence of the intervals.
    """
    rows = _of_neutral(readings, confidence)
    refusals = arms.filter((pl.col("metric") == "refusal_rate") & (pl.col("category") == "all"))
    plain = {r["benchmark"]: r["value"] for r in refusals.to_dicts()[::-1] if r["arm"] == "vanilla"}
    for row in refusals.to_dicts():
        columns = ("arm", "strategy", "benchmark", "value", "low", "high", "n", "unit", "unscored")
        rows.append(
            {c: row[c] for c in columns} | {"cost": REFUSALS, "value_vanilla": plain.get(row["benchmark"])}
        )
    return pl.DataFrame(rows, schema=COSTS_SCHEMA)


def _of_neutral(readings: Mapping[Subject, NeutralTexts], confidence: float) -> list[dict[str, Any]]:
    vanilla = next((r for s, r in readings.items() if s.arm == "vanilla"), None)
    if vanilla is None:
        return []
    known = [x for x in vanilla.surprise.values() if x is not None]
    perplexity = math.exp(min(sum(known) / len(known), LARGEST)) if known else None
    plain = sum(vanilla.incoherent) / len(vanilla.incoherent) if vanilla.incoherent else None
    rows = []
    for made in dict.fromkeys((s.arm, s.strategy) for s in readings):
        some = {s: r for s, r in readings.items() if (s.arm, s.strategy) == made}
        names = {"arm": made[0], "strategy": made[1], "benchmark": NEUTRAL}
        ratio = _ratio(some, vanilla, confidence)
        rows.append(names | {"cost": PERPLEXITY, **vars(ratio), "value_vanilla": perplexity})
        share = _incoherent(some, confidence)
        rows.append(names | {"cost": INCOHERENT, **vars(share), "value_vanilla": plain})
    return rows


def _ratio(some: Mapping[Subject, NeutralTexts], vanilla: NeutralTexts, confidence: float) -> Estimate:
    """Return the perplexity of an arm as a multiple of vanilla's on the same texts."""
    differences: dict[str, list[float]] = {}
    unit, unscored = "text", 0
    for subject, reading in some.items():
        for text, now in reading.surprise.items():
            before = vanilla.surprise.get(text)
            if now is None or before is None:
                unscored += 1
                continue
            unit = "target" if subject.profile else "text"
            at = subject.profile.target if subject.profile else text
            differences.setdefault(at, []).append(now - before)
    means = [sum(x) / len(x) for x in differences.values()]
    logs = mean_interval(means, confidence, unit, unscored)
    value, low, high = (
        None if x is None else math.exp(min(x, LARGEST)) for x in (logs.value, logs.low, logs.high)
    )
    return Estimate(value, low, high, logs.n, unit, unscored)


def _incoherent(some: Mapping[Subject, NeutralTexts], confidence: float) -> Estimate:
    """Return the share of incoherent completions of an arm."""
    if any(subject.profile for subject in some):
        by_target: dict[str, list[bool]] = {}
        for subject, reading in some.items():
            by_target.setdefault(subject.profile.target if subject.profile else "", []).extend(
                reading.incoherent
            )
        shares = [sum(x) / len(x) for x in by_target.values() if x]
        return mean_interval(shares, confidence, "target", 0, (0.0, 1.0))
    every = [x for reading in some.values() for x in reading.incoherent]
    return share_interval(sum(every), len(every), confidence, "completion")
