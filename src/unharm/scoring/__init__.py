"""Scorers turn completions into numbers. `SCORERS` is the table of the built-in ones."""

from __future__ import annotations

from unharm.scoring.built_in import (
    offline_flagged,
    offline_flagged_topic,
    offline_harmfulness,
    offline_harmfulness_topic,
    offline_regard,
    offline_toxicity,
    offline_tweets,
    offline_values,
    rating,
    refusal,
)
from unharm.scoring.scorer import BuiltIn, ScorerRow

__all__ = ["BESIDE", "SCORERS", "BuiltIn", "ScorerRow"]

BESIDE = ("perplexity", "values", "refusal")
"""Measures that fit every benchmark, beside the one that its metrics are made of: how improbable the base
finds an answer, which of the ten values it expresses, and whether it refuses."""

SCORERS: dict[str, BuiltIn] = {
    module.SCORER.name: module.SCORER
    for module in (
        offline_toxicity,
        offline_tweets,
        offline_regard,
        offline_harmfulness,
        offline_harmfulness_topic,
        offline_flagged,
        offline_flagged_topic,
        offline_values,
        refusal,
        rating,
    )
}
