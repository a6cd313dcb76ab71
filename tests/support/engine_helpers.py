"""Prompts and requests for the hf engine."""

from __future__ import annotations

from typing import Any

from unharm.core.errors import UserError
from unharm.engines.requests import Request, Sampling, Task, identify

TEXTS = [
    "The driver behind us shouted",
    "She read",
    "On the bus an old man told everyone",
    "A",
    "Nobody liked",
]


GREEDY = Sampling(12, 0.0, 1.0)


def requests(
    samples: int = 1, texts: list[str] = TEXTS, subject: str = "s", prefix: int = 0, **more: Any
) -> list[Request]:
    found = []
    for place, text in enumerate(texts):
        for sample in range(samples):
            identity, seed = identify(subject, "b", str(place), sample, 1)
            found.append(Request(identity, str(place), sample, text, seed, prefix, **more))
    return found


def never(task: Task, error: UserError) -> None:
    raise AssertionError(error)
