"""Dry runs: how fast made-up answers come, and how often they fail."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dry:
    """Completions and scores a second of one worker (None: as fast as it can), and the share of tries that
    fail: requests and texts (tried again, as real engines and services do), and shards, whose whole task
    raises an error once. `built_in_scorers` are used as they are, in place of made-up scores."""

    engine_rate: float | None = None
    scorer_rate: float | None = None
    faults: float = 0.0
    built_in_scorers: bool = False


class SimulatedFault(RuntimeError):
    """An error that was asked for."""


@dataclass
class Pace:
    """Waits where work goes faster than a rate."""

    rate: float | None
    due: float = field(default_factory=time.monotonic)

    def wait(self, items: int) -> None:
        if self.rate:
            self.due = max(self.due, time.monotonic() - 1) + items / self.rate
            time.sleep(max(0.0, self.due - time.monotonic()))
