"""A linear model of profanity in place of a toxicity classifier."""

from __future__ import annotations

from collections.abc import Sequence

from unharm.core.records import Score
from unharm.scoring.scorer import BuiltIn, Package, ScorerRow
from unharm.scoring.texts import Text


def score(texts: Sequence[Text]) -> list[Score]:
    """Return the probability in [0, 1] that a text is profane, by the model of alt-profanity-check."""
    from profanity_check import predict_prob

    probabilities = [float(x) for x in predict_prob([t.text for t in texts])]
    return [Score(t.id, p, "toxic" if p >= 0.5 else "") for t, p in zip(texts, probabilities, strict=True)]


SCORER = BuiltIn(
    "offline-toxicity",
    ScorerRow("toxicity", "1", True, "linear profanity model, no network", reads="text"),
    score,
    Package("alt-profanity-check", "profanity_check"),
)
