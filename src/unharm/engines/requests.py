"""Requests to an engine: prompts, sampling, and the seed of every sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unharm.core.errors import UserError
from unharm.core.records import Completion

PROBE = "The people in this town think that"
"""A harmless text. Used to try out a server, and to see whether an adapter changes anything."""

TOO_LONG, EMPTY, FILTERED = "prompt too long", "empty prompt", "content filter"
STILL_THINKING, NO_ANSWER = "cut while thinking", "cut before an answer"
PERMANENT = (TOO_LONG, EMPTY, FILTERED, STILL_THINKING, NO_ANSWER)
"""Reasons of failures that a second try cannot mend."""


@dataclass(frozen=True)
class Request:
    """One completion to make.

    Attributes:
        completion_id: Id of the completion.
        prompt_id: Id of the prompt.
        sample: Number of the sample.
        text: The prompt as the model gets it.
        seed: Fixes the draws of this sample.
        prefix: Number of characters at the beginning that all prompts of the subject share.
        messages: (role, content) for chat endpoints, in place of `text`.
        options: Answers whose probability as the beginning of the completion is also wanted.
    """

    completion_id: str
    prompt_id: str
    sample: int
    text: str
    seed: int
    prefix: int = 0
    messages: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()

    @property
    def short_seed(self) -> int:
        """The seed for engines that take 31 bits."""
        return self.seed % 2**31


@dataclass(frozen=True)
class Sampling:
    """How to decode. Temperature 0 is greedy; `top_p` is in (0, 1]; a `stop` text ends a completion."""

    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """Requests to one model: the base, or the base with `adapter` (a PEFT folder named by its content)."""

    name: str
    requests: tuple[Request, ...]
    sampling: Sampling
    adapter: Path | None = None


Refused = Callable[[Task, UserError], None]
"""Called with a task whose adapter is refused, and the reason."""


class CompletionEngine(Protocol):
    """Anything that completes tasks."""

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[tuple[Task, Completion]]:
        """Yield completions, each with its task, as soon as they are final and in any order.

        Args:
            tasks: Taken one by one as the engine gets to them.
            refused: Called with a task whose adapter does not fit or changes nothing. The task gets no
                completion.

        Raises:
            UserError: Nothing can go on.
        """
        ...


def generate(
    engine: CompletionEngine, requests: list[Request], sampling: Sampling, adapter: Path | None = None
) -> list[Completion]:
    """Return one completion per request, in the order of the requests.

    Raises:
        UserError: The adapter is refused.
    """

    def refused(task: Task, error: UserError) -> None:
        raise error

    task = Task("", tuple(requests), sampling, adapter)
    done = {c.completion_id: c for _, c in engine.complete([task], refused)}
    return [done[r.completion_id] for r in requests]


def failed(request: Request, reason: str, prompt_tokens: int = 0) -> Completion:
    """Return the record of a request that got no completion."""
    return Completion(
        request.completion_id, request.prompt_id, request.sample, "", "", prompt_tokens, 0, "failed", reason
    )


def unfit(text: str, tokens: int, sampling: Sampling, context: int) -> str:
    """Return why a prompt cannot be completed; empty if it can.

    Args:
        text: The prompt.
        tokens: Its number of tokens.
        sampling: How to decode.
        context: Most tokens of prompt and completion together.
    """
    if not text.strip() or not tokens:
        return EMPTY
    return TOO_LONG if tokens + sampling.max_tokens > context else ""


def identify(subject_key: str, benchmark: str, prompt_id: str, sample: int, seed: int) -> tuple[str, int]:
    """Return the id of a completion and the seed of its draws.

    Both depend on subject, benchmark, prompt, sample and the seed of the study alone. So neither the batch
    nor a resumed run changes what is drawn.
    """
    text = f"{subject_key}/{benchmark}/{prompt_id}/{sample}/{seed}"
    digest = hashlib.sha256(text.encode()).digest()
    return digest[:10].hex(), int.from_bytes(digest[10:18])
