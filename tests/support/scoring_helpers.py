"""One completion before an offline scorer."""

from __future__ import annotations

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.records import Completion, Prompt
from unharm.scoring import SCORERS
from unharm.scoring.texts import Text, text_of


def text_for(measure: str, answer: str, prompt: Prompt | None = None) -> Text:
    completion = Completion("c", "p", 0, answer, "end", 3, 4)
    scored_text = next((b.scored_text for b in BENCHMARKS.values() if b.measure == measure), "answer")
    return text_of(scored_text, prompt or Prompt("p", "The driver shouted"), completion)


def one(scorer: str, answer: str, prompt: Prompt | None = None) -> float | None:
    return SCORERS[scorer].score([text_for(SCORERS[scorer].row.measures, answer, prompt)])[0].value
