"""Make up scores for dry runs."""

from __future__ import annotations

from collections.abc import Sequence

from unharm.core.pace import Dry, Pace
from unharm.core.records import Score
from unharm.scoring.texts import Text


class DryScorer:
    """Draws scores of a measure from the id of a text. A share `faults` of the texts needs a second try."""

    def __init__(self, dry: Dry, measures: str):
        self.dry, self.measures, self.pace = dry, measures, Pace(dry.scorer_rate)

    def __call__(self, texts: Sequence[Text]) -> list[Score]:
        scores = []
        for text in texts:
            drawn = hash_of(text.id)
            self.pace.wait(2 if drawn < self.dry.faults else 1)
            if self.measures == "toxicity":
                scores.append(Score(text.id, drawn**3, "toxic" if drawn**3 >= 0.5 else ""))
            elif self.measures == "harmfulness":
                scores.append(Score(text.id, 1.0 + int(drawn * 5), ""))
            elif self.measures == "rating":
                scores.append(Score(text.id, 1.0 + int(drawn * 6), ""))
            else:
                scores.append(Score(text.id, float(drawn < 0.3), "negative" if drawn < 0.3 else "positive"))
        return scores


def hash_of(identity: str) -> float:
    """Return a number in [0, 1) that depends only on the id of a completion."""
    return int(identity[-8:], 16) / 2**32
