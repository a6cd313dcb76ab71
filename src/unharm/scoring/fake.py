"""A scorer that makes scores up: for dry runs."""

from __future__ import annotations

from collections.abc import Sequence

from unharm.core.pace import Dry, Pace
from unharm.core.records import Score
from unharm.scoring.texts import Text


class DryScorer:
    """Scores of a measure, drawn from the text; one text in `faults` needs another try."""

    def __init__(self, dry: Dry, measures: str):
        self.dry, self.measures, self.pace = dry, measures, Pace(dry.scorer_rate)

    def __call__(self, texts: Sequence[Text]) -> list[Score]:
        found = []
        for text in texts:
            drawn = hash_of(text.id)
            self.pace.wait(2 if drawn < self.dry.faults else 1)
            if self.measures == "toxicity":
                found.append(Score(text.id, drawn**3, "toxic" if drawn**3 >= 0.5 else ""))
            elif self.measures == "harmfulness":
                found.append(Score(text.id, 1.0 + int(drawn * 5), ""))
            elif self.measures == "rating":
                found.append(Score(text.id, 1.0 + int(drawn * 6), ""))
            else:
                found.append(Score(text.id, float(drawn < 0.3), "negative" if drawn < 0.3 else "positive"))
        return found


def hash_of(identity: str) -> float:
    """A number in [0, 1) that the id of a completion fixes."""
    return int(identity[-8:], 16) / 2**32
