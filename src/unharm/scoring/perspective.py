"""Score by the Perspective API over plain HTTP. The service ends with the year 2026."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai

from unharm.core.connection import api_key
from unharm.core.errors import UserError
from unharm.core.progress import say
from unharm.core.records import Score
from unharm.scoring.answer_store import Answer
from unharm.scoring.service_calls import (
    TRIAL_LOSSES,
    Unreadable,
    parsed,
    patiently,
    request_errors,
    trial_errors,
    wrong_key,
)
from unharm.scoring.settings import ATTRIBUTES, PerspectiveSpec
from unharm.scoring.texts import Text

END = datetime.date(2026, 12, 31)
INSTEAD = "'unharm pilot' fits a map from a classifier of yours to it while it exists"
MOST_BYTES = 20_480


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


class Perspective:
    """See `Service`. The score is the summary score, in [0, 1], of one attribute; all are stored."""

    tries = 1

    def __init__(self, spec: PerspectiveSpec, version: str, where: str):
        if today() > END:
            raise UserError("the Perspective API has ended with the year 2026", where, INSTEAD)
        say(f"note: the Perspective API ends with {END:%Y}; {INSTEAD}")
        self.spec, self.version, self.where = spec, version, where
        self.concurrency = spec.server.concurrency
        self.attributes = tuple(dict.fromkeys((spec.attribute, *ATTRIBUTES)))
        self.client = httpx2.Client(
            timeout=spec.timeout, headers={"X-Goog-Api-Key": api_key(spec.server, where)}
        )

    def try_out(self, before: Callable[[], None]) -> None:
        with trial_errors(self.spec.server, self.where):
            answer = patiently(
                lambda: self._send("Good morning to you all.", before), self.spec.attempts, TRIAL_LOSSES
            )
        if answer.kind != "answer":
            raise UserError(
                f"the service does not score a harmless text ({answer.reason})",
                self.where,
                "check 'attribute' and 'language'",
            )

    def identity(self, text: Text) -> tuple[str, ...]:
        return (text.text,)

    def most(self, text: Text) -> float:
        return 0.0

    def ask(self, text: Text, attempt: int, before: Callable[[], None]) -> Answer:
        if len(text.text.encode("utf-8", "replace")) > MOST_BYTES:
            return Answer("", "unscorable", f"longer than {MOST_BYTES:,} bytes")
        with request_errors(self.spec.server, self.where, "this address"):
            return patiently(lambda: self._send(text.text, before), self.spec.attempts)

    def _send(self, text: str, before: Callable[[], None]) -> Answer:
        before()
        body: dict[str, Any] = {
            "comment": {"text": text},
            "requestedAttributes": {name: {} for name in self.attributes},
            "doNotStore": True,
        }
        if self.spec.language:
            body["languages"] = [self.spec.language]
        try:
            response = self.client.post(f"{self.spec.url}/v1alpha1/comments:analyze", json=body)
        except httpx2.TimeoutException:
            raise openai.APITimeoutError(request=_NO_REQUEST) from None
        except httpx2.HTTPError:
            raise openai.APIConnectionError(request=_NO_REQUEST) from None
        if response.status_code == 200:
            answer: Answer = parsed(lambda: self._scores(response.json()))
            return answer
        return self._failure(response)

    def _scores(self, data: dict[str, Any]) -> Answer:
        given = data.get("attributeScores", {})
        scores = {n: given[n]["summaryScore"]["value"] for n in self.attributes if n in given}
        if self.spec.attribute not in scores:
            raise Unreadable("no score")
        return Answer(json.dumps(scores))

    def _failure(self, response: httpx2.Response) -> Answer:
        """Return the answer to an unscorable text. Raise other errors as the openai library does."""
        try:
            error = response.json()["error"]
            kinds = {str(d.get("errorType") or d.get("reason")) for d in error.get("details", [])}
        except (ValueError, KeyError, TypeError, AttributeError):
            kinds = set()
        if response.status_code == 400:
            if kinds & {"LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE", "LANGUAGE_NOT_SUPPORTED"}:
                return Answer("", "unscorable", "unsupported language")
            if kinds & {"COMMENT_EMPTY", "COMMENT_TOO_LONG"}:
                return Answer("", "unscorable", "the service takes no text of this length")
            if "API_KEY_INVALID" in kinds:
                raise wrong_key(self.spec.server, self.where)
        if response.status_code in (401, 403):
            raise wrong_key(self.spec.server, self.where)
        raise openai.APIStatusError("", response=response, body=None)

    def read(self, text: Text, answer: Answer) -> Score | None:
        value = float(json.loads(answer.raw)[self.spec.attribute])
        return Score(text.id, value, "toxic" if value >= 0.5 else "", raw=answer.raw)


_NO_REQUEST = httpx2.Request("POST", "https://service.invalid")
