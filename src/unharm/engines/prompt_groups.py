"""Prompts with the requests for their samples, and the samples in progress."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from unharm.engines.kv_cache import Prefix
from unharm.engines.requests import Request, Task


@dataclass
class PromptGroup:
    """A prompt of a task, with the requests for its samples.

    Attributes:
        task: The task it belongs to.
        requests: One request per sample.
        ids: Token ids of the prompt; empty if it cannot be completed.
        shared: How many tokens at its beginning are a prefix shared with other prompts.
        adapter: Folder of the adapter; empty for the plain base.
        prefix: The cached prefix, once computed.
        answers: Token ids of prompt and answer together, of each answer asked for.
        options: Probabilities of the answers asked for, once computed.
        reason: Why the prompt cannot be completed.
    """

    task: Task
    requests: list[Request]
    ids: list[int]
    shared: int
    adapter: str
    prefix: Prefix | None = None
    answers: list[list[int]] = field(default_factory=list)
    options: tuple[float, ...] = ()
    reason: str = ""

    @property
    def suffix(self) -> list[int]:
        """The tokens after the shared prefix."""
        return self.ids[self.shared :]

    @property
    def option_rows(self) -> list[tuple[int, ...]]:
        """The rows that read the answers: their tokens after the prefix but the last, each once."""
        return list(dict.fromkeys(tuple(ids[self.shared : -1]) for ids in self.answers))

    @property
    def max_length(self) -> int:
        """Most own tokens of one of its rows in the cache."""
        return len(self.ids) - self.shared + self.task.sampling.max_tokens


@dataclass
class Sample:
    """One sample in progress.

    Attributes:
        prompt: Its prompt.
        request: Its request.
        row: The row that it follows.
        draws: Uniform numbers, one per token [max_tokens].
        tokens: Tokens drawn so far.
    """

    prompt: PromptGroup
    request: Request
    row: int
    draws: np.ndarray
    tokens: list[int] = field(default_factory=list)


def common_length(one: list[int], other: list[int]) -> int:
    """Return how many tokens two texts share at their beginning. Leaves at least one token of `other`."""
    count = 0
    for a, b in zip(one, other[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count
