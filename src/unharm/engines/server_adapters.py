"""Read the answers of a server, and have it load adapters while it runs."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai

from unharm.core.errors import UserError
from unharm.engines.requests import Task
from unharm.engines.settings import Server

IDLE_LIMIT = 8
"""Number of idle adapters that stay loaded on a server."""

TopTokens = list[tuple[str, float]]
"""The most likely tokens at one place, with their log probabilities."""


@dataclass(frozen=True)
class ServerAnswer:
    """The first choice of a server.

    Attributes:
        text: The completion.
        finish: Why it ended, in the server's words.
        prompt_tokens: Tokens of the prompt.
        tokens: Tokens of the completion.
        top_tokens: The most likely tokens of each place, where the server gives them.
    """

    text: str
    finish: str
    prompt_tokens: int
    tokens: int
    top_tokens: list[TopTokens]

    def options(self, wanted: tuple[str, ...]) -> tuple[float, ...]:
        """Return the probability of every wanted answer.

        Read at the first place where any of them is among the most likely tokens. Others count as 0. Empty
        if there is no such place.
        """
        names = [w.strip() for w in wanted]
        for place in self.top_tokens:
            probabilities = [
                math.fsum(math.exp(p) for token, p in place if token.strip() == name) for name in names
            ]
            if sum(probabilities) > 0:
                return tuple(probabilities)
        return ()


def read_answer(response: Any) -> ServerAnswer:
    """Return the first choice of a completion or chat completion.

    Raises:
        ValueError: There is no choice, or it has no text.
    """
    try:
        choice, usage = response.choices[0], response.usage
        chat = getattr(choice, "message", None)
        text = (chat.content or chat.refusal or "") if chat is not None else choice.text
        if not isinstance(text, str):
            raise ValueError("no text")
        return ServerAnswer(
            text,
            str(choice.finish_reason or ""),
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
            _top_tokens(getattr(choice, "logprobs", None)),
        )
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"not an answer: {error}") from None


def _top_tokens(logprobs: Any) -> list[TopTokens]:
    """Return the most likely tokens of each place; empty if the server gives none."""
    if logprobs is None:
        return []
    if getattr(logprobs, "content", None):  # chat
        return [[(t.token, t.logprob) for t in place.top_logprobs] for place in logprobs.content]
    return [list(place.items()) for place in getattr(logprobs, "top_logprobs", None) or [] if place]


class ServedAdapters:
    """Adapters that a server loads through `/load_lora_adapter` (vLLM), named by their content."""

    def __init__(self, server: Server, client: openai.OpenAI, probe: Callable[[str], ServerAnswer]):
        self.server, self.client, self.probe = server, client, probe
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._asked: Counter[str] = Counter()
        self._checked: set[str] = set()
        self._plain: ServerAnswer | None = None

    def name(self, task: Task) -> str:
        """Return the model name of a task's adapter on the server; empty for the plain base."""
        return f"unharm-{task.adapter.name}" if task.adapter else ""

    def load(self, task: Task) -> None:
        """Have the server load the adapter of a task, and check once that it changes the answers.

        Raises:
            UserError: The server cannot load the adapter, or it changes nothing.
        """
        name = self.name(task)
        if not name:
            return
        self._asked[name] += len(task.requests)
        if name not in self._loaded:
            self._load(name, str(task.adapter and task.adapter.resolve()), task.name)
            self._loaded[name] = None
        self._loaded.move_to_end(name)
        if name not in self._checked:
            if self._plain is None:
                self._plain = self.probe("")
            adapted = self.probe(name)
            if (adapted.text, adapted.top_tokens) == (self._plain.text, self._plain.top_tokens):
                raise UserError(
                    "the adapter changes nothing: the server answers as the base does", task.name
                )
            self._checked.add(name)
        idle = [n for n in self._loaded if not self._asked[n] and n != name]
        for old in idle[: max(0, len(self._loaded) - IDLE_LIMIT)]:
            self._unload(old)

    def release(self, task: Task) -> None:
        """Count one request of a task as ended. An adapter without requests may be unloaded."""
        self._asked[self.name(task)] -= 1

    def unload_all(self) -> None:
        """Have the server unload all adapters."""
        for name in list(self._loaded):
            self._unload(name)

    def _load(self, name: str, path: str, label: str) -> None:
        try:
            self.client.post("/load_lora_adapter", body={"lora_name": name, "lora_path": path}, cast_to=str)
        except openai.APIStatusError as error:
            if "already" in str(error).lower():
                return
            raise UserError(
                f"the server does not load the adapter (HTTP {error.status_code})",
                label,
                "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where it sees "
                f"{path}",
            ) from None
        except openai.APIConnectionError:
            raise UserError("the server does not answer", self.server.url, "start it again") from None

    def _unload(self, name: str) -> None:
        del self._loaded[name]
        try:
            self.client.post("/unload_lora_adapter", body={"lora_name": name}, cast_to=str)
        except openai.OpenAIError:
            return  # it stays loaded, which costs only the server's memory
