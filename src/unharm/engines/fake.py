"""An engine that makes up completions, for dry runs."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator

from unharm.core.pace import Dry, InjectedFault, Pace
from unharm.core.records import Completion
from unharm.engines.requests import Refused, Task

TEXTS = 2048
"""Number of different made-up texts."""

REPEATED = 0.45
"""Share of the samples of a prompt that repeat its first, as measured at temperature 0.1."""


def _texts(tokens: int) -> list[str]:
    """Return made-up texts of at most `tokens` tokens."""
    draw = random.Random(tokens)
    words = ["".join(draw.choices("etaoinshrdlucm", k=draw.randint(2, 8))) for _ in range(500)]
    return [
        " ".join(draw.choices(words, k=max(1, draw.randint(tokens // 2, tokens) * 3 // 4))).capitalize()
        + "."
        for _ in range(TEXTS)
    ]


class DryEngine:
    """Completes tasks with texts of realistic length. The same request always gets the same text."""

    def __init__(self, dry: Dry):
        self.dry, self.pace = dry, Pace(dry.engine_rate)
        self._pools: dict[int, list[str]] = {}
        self._raised: set[str] = set()

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[tuple[Task, Completion]]:
        """See `CompletionEngine`. Simulated faults and the pace follow the settings of the dry run."""
        for task in tasks:
            if _drawn(task.name) < self.dry.faults and task.name not in self._raised:
                self._raised.add(task.name)
                raise InjectedFault("a task that fails, as asked for")
            max_tokens = task.sampling.max_tokens
            if max_tokens not in self._pools:
                self._pools[max_tokens] = _texts(max_tokens)
            pool = self._pools[max_tokens]
            self.pace.wait(len(task.requests))
            first = 0
            for request in task.requests:
                if request.seed % 10_007 < 10_007 * self.dry.faults:
                    self.pace.wait(1)  # simulates a request that is tried again
                if request.sample == 0:
                    first = request.seed
                repeats = request.sample and request.seed % 1000 < 1000 * REPEATED
                text = pool[(first if repeats else request.seed) % TEXTS]
                options = tuple(1 / 8 for _ in request.options)
                yield task, Completion(
                    request.completion_id, request.prompt_id, request.sample, text, "length",
                    len(request.text) // 4, max_tokens, options=options,
                )  # fmt: skip


def _drawn(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32
