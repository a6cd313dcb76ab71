"""Collect what is read beside harm, subject by subject: choices between values, and costs in language."""

from __future__ import annotations

import polars as pl

from unharm.analysis.behaviour import (
    BEHAVIOUR,
    SELF_REPORT,
    behaviour_arms_table,
    behaviour_table,
    choice_scores,
    leakage_table,
)
from unharm.analysis.costs import NeutralTexts, costs_table, neutral_texts
from unharm.benchmarks import registry
from unharm.core.records import Subject
from unharm.runs.keys import Shard
from unharm.runs.plan import Plan
from unharm.store.store import Store


class BesideHarm:
    """Readings of the benchmarks whose answers are choices or neutral texts.

    Args:
        plan: The plan of the study.
        store: Where completions are.
    """

    def __init__(self, plan: Plan, store: Store):
        self._plan, self._store = plan, store
        self._readings: dict[tuple[Subject, str], pl.DataFrame] = {}
        self._positions: dict[Subject, float | None] = {}
        self._neutral: dict[Subject, NeutralTexts] = {}

    def add_ratings(self, subject: Subject, ratings: pl.DataFrame) -> None:
        """Add the rating of every questionnaire item by a subject."""
        self._readings[subject, SELF_REPORT] = ratings

    def add(self, subject: Subject, benchmark: str, shards: list[Shard], scores: pl.DataFrame) -> None:
        """Add the completions of a subject on one of these benchmarks; others are passed over."""
        if benchmark not in (registry.BEHAVIOUR, registry.NEUTRAL):
            return
        columns = [self._store.scan(s.completions).select("prompt_id", "options", "sample") for s in shards]
        completions = pl.concat(columns).filter(pl.col("sample") == 0).collect()
        prompts = self._plan.prompts[benchmark].prompts
        if benchmark == registry.NEUTRAL:
            self._neutral[subject] = neutral_texts(completions, scores, prompts)
            return
        choices, first = choice_scores(completions, prompts)
        self._readings[subject, BEHAVIOUR] = choices
        self._positions[subject] = first

    def tables(self, arms: pl.DataFrame, confidence: float) -> dict[str, pl.DataFrame]:
        """Return the tables of behaviour, leakage and costs. `arms` is the table of arms."""
        behaviour = behaviour_table(self._readings, self._positions)
        return {
            "behaviour": behaviour,
            "behaviour_arms": behaviour_arms_table(behaviour, confidence),
            "leakage": leakage_table(behaviour, self._plan.profiles, confidence),
            "costs": costs_table(self._neutral, arms, confidence),
        }
