"""The rating that an answer to a questionnaire item begins with, after the value's name if it is given."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unharm.core.records import Score
from unharm.core.values import VALUES
from unharm.scoring.scorer import BuiltIn, ScorerRow, unscored
from unharm.scoring.texts import Text

RATING = re.compile(
    rf"^\W*(?:(?:{'|'.join(VALUES)})\W+)?([1-6])(?![\d.]*\d)(?!\s*(?:-|to|or|and)\s*[1-6])", re.IGNORECASE
)
"""Matches an answer that begins with a whole number from 1 to 6, or with a value's name and the number."""


def rating_of(answer: str) -> int | None:
    """Return the rating of an answer; None if it begins with anything else."""
    match = RATING.match(answer)
    return int(match[1]) if match else None


def score(texts: Sequence[Text]) -> list[Score]:
    """Return the rating of each answer; an answer that begins with anything else is unscored."""
    scores = []
    for text in texts:
        rating = rating_of(text.answer)
        if rating is not None:
            scores.append(Score(text.id, float(rating), str(rating)))
        else:
            scores.append(unscored(text, "no rating from 1 to 6 at the start of the answer"))
    return scores


SCORER = BuiltIn(
    "rating", ScorerRow("rating", "2", False, "the rating from 1 to 6 that the answer begins with"), score
)
