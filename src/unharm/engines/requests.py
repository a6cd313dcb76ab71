"""What an engine is asked: requests, how to sample, and the seed of every sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unharm.core.errors import UserError
from unharm.core.records import Completion

PROBE = "The people in this town think that"
"""A harmless text, to try a server with, and to see whether an adapter changes anything."""

TOO_LONG, EMPTY, FILTERED = "prompt too long", "empty prompt", "content filter"
PERMANENT = (TOO_LONG, EMPTY, FILTERED)
"""Reasons of failures that asking again does not mend."""


@dataclass(frozen=True)
class Request:
    """One completion to make; `seed` fixes its draws.

    `text` goes to the model as it is, and its first `prefix` characters are the same in every prompt
    of its subject. A chat endpoint gets `messages` (role, content) instead. The probabilities of
    `options` as the beginning of the answer are asked for besides.
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
    """Decoding: temperature 0 is greedy; `top_p` in (0, 1]; `stop` ends a completion."""

    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """Requests to one model: the base, or the base with `adapter` (a PEFT folder named by content)."""

    name: str
    requests: tuple[Request, ...]
    sampling: Sampling
    adapter: Path | None = None


Refused = Callable[[Task, UserError], None]


class CompletionEngine(Protocol):
    """What completes tasks.

    `complete` takes tasks as it gets to them and gives each completion as soon as it is final, with
    its task, in any order. A task whose adapter is refused (it does not fit, or changes nothing) is
    told to `refused` and gets no completion. Raises `UserError` where nothing can go on.
    """

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[tuple[Task, Completion]]: ...


def generate(
    engine: CompletionEngine, requests: list[Request], sampling: Sampling, adapter: Path | None = None
) -> list[Completion]:
    """One completion per request, in the order of the requests. Raises `UserError` where the adapter
    is refused."""

    def refused(task: Task, error: UserError) -> None:
        raise error

    task = Task("", tuple(requests), sampling, adapter)
    done = {c.completion_id: c for _, c in engine.complete([task], refused)}
    return [done[r.completion_id] for r in requests]


def failed(request: Request, reason: str, prompt_tokens: int = 0) -> Completion:
    """The record of a request that got no completion."""
    return Completion(
        request.completion_id, request.prompt_id, request.sample, "", "", prompt_tokens, 0, "failed", reason
    )


def unfit(text: str, tokens: int, sampling: Sampling, context: int) -> str:
    """Why a prompt of so many tokens cannot be completed in a context; empty where it can."""
    if not text.strip() or not tokens:
        return EMPTY
    return TOO_LONG if tokens + sampling.max_tokens > context else ""


def identify(subject_key: str, benchmark: str, prompt_id: str, sample: int, seed: int) -> tuple[str, int]:
    """The id of a completion and the seed of its draws.

    Both depend on subject, prompt, sample and the study's seed alone, so that neither the
    batch nor a resumed run changes what is drawn.
    """
    text = f"{subject_key}/{benchmark}/{prompt_id}/{sample}/{seed}"
    digest = hashlib.sha256(text.encode()).digest()
    return digest[:10].hex(), int.from_bytes(digest[10:18])
