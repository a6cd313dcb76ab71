"""The rating that an answer to a questionnaire item begins with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unharm.core.records import Score
from unharm.scoring.scorer import BuiltIn, ScorerRow, unscored
from unharm.scoring.texts import Text

RATING = re.compile(r"^\W*([1-6])(?![\d.]*\d)(?!\s*(?:-|to|or|and)\s*[1-6])")
"""Matches an answer that begins with one whole number from 1 to 6."""


def score(texts: Sequence[Text]) -> list[Score]:
    """Return the rating of each answer; an answer that begins with anything else is unscored."""
    scores = []
    for text in texts:
        match = RATING.match(text.answer)
        if match:
            scores.append(Score(text.id, float(match[1]), match[1]))
        else:
            scores.append(unscored(text, "no rating from 1 to 6 at the start of the answer"))
    return scores


SCORER = BuiltIn(
    "rating", ScorerRow("rating", "1", False, "the rating from 1 to 6 that the answer begins with"), score
)
