"""Score by an OpenAI-compatible moderation endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from unharm.core.records import Score
from unharm.scoring.answer_store import Answer
from unharm.scoring.service_calls import (
    TRIAL_LOSSES,
    client_of,
    parsed,
    patiently,
    request_errors,
    trial_errors,
)
from unharm.scoring.settings import ModerationSpec
from unharm.scoring.texts import Text


class Moderation:
    """See `Service`: flagged 0 or 1, or as toxicity the largest score of its categories."""

    tries = 1

    def __init__(self, spec: ModerationSpec, version: str, where: str):
        self.spec, self.version, self.where = spec, version, where
        self.concurrency = spec.server.concurrency
        self.client = client_of(spec.server, f"{where}.server")

    def try_out(self, before: Callable[[], None]) -> None:
        with trial_errors(self.spec.server, f"{self.where}.server"):
            patiently(lambda: self._send("Good morning.", before), self.spec.server.attempts, TRIAL_LOSSES)

    def identity(self, text: Text) -> tuple[str, ...]:
        return (text.text,)

    def most(self, text: Text) -> float:
        return 0.0

    def ask(self, text: Text, attempt: int, before: Callable[[], None]) -> Answer:
        with request_errors(self.spec.server, self.where, f"the model {self.spec.model!r}"):
            return patiently(lambda: self._send(text.text, before), self.spec.server.attempts)

    def _send(self, text: str, before: Callable[[], None]) -> Answer:
        before()

        def send() -> Answer:
            result: Any = self.client.moderations.create(model=self.spec.model, input=text).results[0]
            scores = result.category_scores.model_dump(by_alias=True)
            categories = {n: round(float(score), 6) for n, score in scores.items() if score is not None}
            return Answer(json.dumps({"flagged": bool(result.flagged), "scores": categories}))

        answer: Answer = parsed(send)
        return answer

    def read(self, text: Text, answer: Answer) -> Score | None:
        data = json.loads(answer.raw)
        scores: dict[str, float] = data["scores"]
        if self.spec.measures == "flagged":
            label = "flagged" if data["flagged"] else "safe"
            return Score(text.id, float(data["flagged"]), label, raw=answer.raw)
        if not scores:
            return None
        name = max(scores, key=lambda n: scores[n])
        return Score(text.id, scores[name], name, raw=answer.raw)
