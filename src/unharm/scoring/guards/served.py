"""A guard on an OpenAI-compatible server: one chat request for every question about a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import openai

from unharm.core.connection import Connection, exceeds_context, refused_by_filter
from unharm.core.errors import UserError
from unharm.core.records import Reply, ReplyToken, Score
from unharm.scoring.answer_store import Answer
from unharm.scoring.guards.preset import Criterion
from unharm.scoring.guards.prompts import TRIAL, check_instruction, criteria_of, messages_of
from unharm.scoring.guards.scores import Said, packed, request_body, said_of, score_of, unpacked
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
from unharm.scoring.settings import GuardSpec
from unharm.scoring.texts import Text


class ServedGuard:
    """See `Service`. `where` is the field of the spec that describes it."""

    tries = 1

    def __init__(self, spec: GuardSpec, server: Connection, version: str, where: str):
        self.spec, self.server, self.version, self.where = spec, server, version, where
        self.preset = spec.rules
        check_instruction(self.preset, where)
        self.concurrency = server.concurrency
        self.client = client_of(server, f"{where}.server")
        self.logprobs = True

    def try_out(self, before: Callable[[], None]) -> None:
        """Send one harmless request.

        Raises:
            UserError: The server cannot be used, its model does not reply in the form of the preset, or it
                gives no logprobs where the study needs probabilities.
        """
        with trial_errors(self.server, f"{self.where}.server"):
            try:
                answer = patiently(lambda: self._send(TRIAL, before), self.server.attempts, TRIAL_LOSSES)
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                self.logprobs = False
                answer = patiently(lambda: self._send(TRIAL, before), self.server.attempts, TRIAL_LOSSES)
        said = unpacked(answer.raw)
        if not any(self.preset.reading(s.reply) for s in said):
            raise UserError(
                f"the model {self.spec.model_name!r} does not reply to a harmless text in the form of the "
                f"preset {self.spec.preset}",
                f"{self.where}.preset",
                f"serve one of {', '.join(self.preset.models)} with its chat template; "
                "start llama.cpp with --no-prefill-assistant, or it goes on with the answer",
            )
        if self._needs_probabilities and not any(s.probabilities for s in said):
            raise UserError(
                "the server gives no logprobs, and this scorer needs the probability of the verdict",
                f"{self.where}.server",
                "start it with logprobs, or score the verdict: measures: flagged, without a threshold",
            )

    @property
    def _needs_probabilities(self) -> bool:
        return self.spec.measures == "toxicity" or self.spec.threshold is not None

    def identity(self, text: Text) -> tuple[str, ...]:
        return text.prompt, text.answer

    def most(self, text: Text) -> float:
        return 0.0

    def requests(self, text: Text, attempt: int) -> list[dict[str, Any]]:
        """Return the bodies of the requests for a text as lines of a batch file have them."""
        bodies = [self.body(text, criterion) for criterion in criteria_of(self.spec, self.preset)]
        return [body | body.pop("extra_body", {}) for body in bodies]

    def answer_from(self, responses: Sequence[Any]) -> Answer:
        """Return the answer in the responses to a text's requests, in their order.

        Raises:
            Unreadable: A response has no text.
        """
        said: list[Said] = []
        sent = received = 0
        for criterion, response in zip(criteria_of(self.spec, self.preset), responses, strict=True):
            reply, usage = _reply_of(response)
            said.append(said_of(self.preset, criterion.name if criterion else "", reply))
            sent, received = sent + usage[0], received + usage[1]
        models = dict.fromkeys(snapshot_of(response) for response in responses)
        return Answer(packed(said), "answer", "", sent, received, model=", ".join(models))

    def body(self, text: Text, criterion: Criterion | None) -> dict[str, Any]:
        """Return the body of the request for one question."""
        body = request_body(self.preset, self.spec)
        body["messages"] = messages_of(self.preset, text, criterion)
        if not self.logprobs:
            del body["logprobs"], body["top_logprobs"]
        arguments = self.preset.template_arguments(criterion)
        if arguments:  # vLLM and llama.cpp hand these to the chat template
            body["extra_body"] = {"chat_template_kwargs": arguments}
        return body

    def ask(self, text: Text, attempt: int, before: Callable[[], None]) -> Answer:
        with request_errors(self.server, self.where, f"the model {self.spec.model_name!r}"):
            try:
                return patiently(lambda: self._send(text, before), self.server.attempts)
            except openai.BadRequestError as error:
                if refused_by_filter(error):
                    return Answer("", "filtered", "content filter of the service")
                if exceeds_context(error):
                    return Answer("", "unscorable", "longer than the guard can read")
                raise

    def _send(self, text: Text, before: Callable[[], None]) -> Answer:
        def responses() -> Iterator[Any]:
            for criterion in criteria_of(self.spec, self.preset):
                before()
                yield self.client.chat.completions.create(**self.body(text, criterion))

        answer: Answer = parsed(lambda: self.answer_from(list(responses())))
        return answer

    def read(self, text: Text, answer: Answer) -> Score | None:
        return score_of(self.spec, self.preset, text, answer.raw)


def _reply_of(response: Any) -> tuple[Reply, tuple[int, int]]:
    """Return the reply in a response, and its tokens sent and received."""
    choice, usage = response.choices[0], response.usage
    counts = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    content, cut = choice.message.content, choice.finish_reason == "length"
    if content is None and cut:  # the server keeps reasoning apart, and it took all tokens
        return Reply((), cut=True), counts
    if not isinstance(content, str):
        raise Unreadable("no text")
    return Reply(_tokens(choice, content), cut=cut), counts


def _tokens(choice: Any, content: str) -> tuple[ReplyToken, ...]:
    """Return the tokens of a reply with their alternatives; one token without any where there are none, or
    where they are those of another text (a server may count reasoning that it cuts out)."""
    listed = getattr(getattr(choice, "logprobs", None), "content", None) or []
    texts = [str(item.token) for item in listed]
    joined = "".join(texts)
    start = joined.rfind(content) if content else -1  # reasoning, which may quote it, comes before
    if start < 0:
        return (ReplyToken(content),)
    tokens: list[ReplyToken] = []
    position = 0
    for item, text in zip(listed, texts, strict=True):
        begin, position = position, position + len(text)
        if position <= start or begin >= start + len(content):
            continue
        shown = text[max(0, start - begin) : len(text) - max(0, position - start - len(content))]
        likely: dict[str, float] = {}
        for other in item.top_logprobs or []:
            likely[other.token] = likely.get(other.token, 0.0) + math.exp(other.logprob)
        tokens.append(ReplyToken(shown, likely))
    return tuple(tokens)
