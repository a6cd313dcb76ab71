"""Settings of a dry run: the rate of made-up answers, and how often attempts fail."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dry:
    """Settings of a dry run.

    Attributes:
        engine_rate: Completions per second of one worker. None: no limit.
        scorer_rate: Scores per second of one worker. None: no limit.
        faults: Share of attempts that fail. Failed requests and texts are tried again, as real engines
            and services do. A failed shard raises an error once.
        built_in_scorers: Whether built-in scorers run for real instead of making scores up.
    """

    engine_rate: float | None = None
    scorer_rate: float | None = None
    faults: float = 0.0
    built_in_scorers: bool = False


class InjectedFault(RuntimeError):
    """An error that a dry run raises on purpose."""


@dataclass
class Pace:
    """Slows work down to a rate in items per second."""

    rate: float | None
    due: float = field(default_factory=time.monotonic)

    def wait(self, items: int) -> None:
        """Sleep until `items` more items are due at the rate. Return at once without a rate."""
        if self.rate:
            self.due = max(self.due, time.monotonic() - 1) + items / self.rate
            time.sleep(max(0.0, self.due - time.monotonic()))
