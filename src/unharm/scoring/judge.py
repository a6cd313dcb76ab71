"""Score by a language model that judges by a rubric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import openai

from unharm.core.connection import exceeds_context, refused_by_filter
from unharm.core.records import Score
from unharm.scoring.answer_store import CUT, Answer
from unharm.scoring.litellm_client import Create, litellm_create
from unharm.scoring.rubric import Rubric
from unharm.scoring.service_calls import (
    TRIAL_LOSSES,
    Unreadable,
    client_of,
    parsed,
    patiently,
    request_errors,
    snapshot_of,
    trial_errors,
)
from unharm.scoring.settings import JudgeSpec
from unharm.scoring.texts import Text
from unharm.scoring.thinking import thought_of, without_thinking

CHARACTERS_PER_TOKEN = 3.0
"""Fewer characters than any usual text has per token, for the highest cost of a request."""

TRIAL = Text("", "How long should I boil an egg?", "Eight minutes for a firm yolk.", "")
MANNERS = (
    {"limit": "max_tokens", "structured": True},
    {"limit": "max_tokens", "structured": False},
    {"limit": "max_completion_tokens", "structured": True},
    {"limit": "max_completion_tokens", "structured": False},
)
"""Forms of a request. The first one that a server accepts is used."""


class Judge:
    """See `Service`. `where` is the field of the spec that describes it."""

    def __init__(self, spec: JudgeSpec, rubric: Rubric, version: str, where: str):
        self.spec, self.rubric, self.version, self.where = spec, rubric, version, where
        self.server = spec.connection
        self.tries, self.concurrency = spec.tries, self.server.concurrency
        self.create: Create
        if spec.through == "litellm":
            self.create = litellm_create(self.server, spec.server is not None, where)
        else:
            self.create = client_of(self.server, f"{where}.server").chat.completions.create
        self.manner: dict[str, Any] = dict(MANNERS[0])

    def try_out(self, before: Callable[[], None]) -> None:
        """Send one harmless request, and find the form of request that the server accepts.

        Raises:
            UserError: The server cannot be used.
        """
        with trial_errors(self.server, f"{self.where}.server"):
            for manner in MANNERS:
                self.manner = dict(manner)
                try:
                    patiently(lambda: self._send(TRIAL, 1, before), self.server.attempts, TRIAL_LOSSES)
                    return
                except (openai.BadRequestError, openai.UnprocessableEntityError):
                    if manner is MANNERS[-1]:
                        raise

    def identity(self, text: Text) -> tuple[str, ...]:
        return text.prompt, text.answer

    def most(self, text: Text) -> float:
        """Return the highest cost of an answer in the currency of `price`, 0 without a price."""
        if not self.spec.price:
            return 0.0
        messages = self.rubric.messages(text, structured=True, again=True)
        characters = sum(len(m["content"]) for m in messages)
        return self._cost(round(characters / CHARACTERS_PER_TOKEN), self.spec.limit(self.tries))

    def _cost(self, sent: int, received: int) -> float:
        price = self.spec.price
        return (sent * price.input + received * price.output) / 1e6 if price else 0.0

    def settings(self, text: Text, attempt: int) -> dict[str, Any]:
        """Return the body of a request. The seed changes with the attempt, so that a server that uses it
        can answer in another way."""
        structured = bool(self.manner["structured"])
        body: dict[str, Any] = {
            "model": self.spec.model,
            "messages": self.rubric.messages(text, structured, again=attempt > 1),
            self.manner["limit"]: self.spec.limit(attempt),
        }
        if self.spec.through == "openai":  # other providers know none
            body["seed"] = attempt
        if self.spec.sent_temperature is not None:
            body["temperature"] = self.spec.sent_temperature
        if self.spec.reasoning_effort is not None:
            body["reasoning_effort"] = self.spec.reasoning_effort
        if structured:
            schema = {"name": "verdict", "strict": True, "schema": self.rubric.schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def requests(self, text: Text, attempt: int) -> list[dict[str, Any]]:
        """Return the bodies of the requests for a text as lines of a batch file have them."""
        return [self.settings(text, attempt)]

    def answer_from(self, responses: Sequence[Any]) -> Answer:
        """Return the answer in the response to a text's request."""
        return self.answer_of(responses[0])

    def ask(self, text: Text, attempt: int, before: Callable[[], None]) -> Answer:
        with request_errors(self.server, self.where, f"the model {self.spec.model!r}"):
            try:
                return patiently(lambda: self._send(text, attempt, before), self.server.attempts)
            except openai.BadRequestError as error:
                if refused_by_filter(error):
                    return Answer("", "filtered", "content filter of the service")
                if exceeds_context(error):
                    return Answer("", "unscorable", "longer than the judge can read")
                raise

    def _send(self, text: Text, attempt: int, before: Callable[[], None]) -> Answer:
        before()
        body = self.settings(text, attempt)
        answer: Answer = parsed(lambda: self.answer_of(self.create(**body)))
        return answer

    def answer_of(self, response: Any) -> Answer:
        """Return the answer in a chat completion, its reasoning apart.

        Raises:
            Unreadable: No choice has a text.
        """
        choice, usage = response.choices[0], response.usage
        sent, received = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        cost, model = self._cost(sent, received), snapshot_of(response)
        if choice.finish_reason == "content_filter":
            reason = "content filter of the service"
            return Answer("", "filtered", reason, sent, received, cost, model=model)
        if getattr(choice.message, "refusal", None):
            return Answer(choice.message.refusal, "refused", "", sent, received, cost, model=model)
        cut, thought = choice.finish_reason == "length", thought_of(choice.message)
        content = choice.message.content
        if content is None and cut:  # all of its tokens went into reasoning
            content = ""
        if not isinstance(content, str):
            raise Unreadable("no text")
        verdict, begins = without_thinking(content)
        thought = "\n".join(part for part in (thought, content[:begins].strip()) if part)
        return Answer(verdict, "answer", CUT if cut else "", sent, received, cost, thought, model)

    def read(self, text: Text, answer: Answer) -> Score | None:
        verdict = self.rubric.read(answer.raw)
        if verdict:
            return Score(text.id, verdict.value, verdict.label, raw=answer.raw)
        if self.rubric.refused(answer.raw):
            return Score(text.id, None, "", "refused", "the judge refused", answer.raw)
        return None
