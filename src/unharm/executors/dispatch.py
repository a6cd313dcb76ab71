"""How the chunks of a stage get done: given to workers, given again, cut in halves, given up in the end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from unharm.core import interrupt
from unharm.core.errors import Problem, UserError
from unharm.core.progress import Progress
from unharm.executors.chunks import Chunk, Fault, Outcome, Work

LOSSES = 3
"""A chunk with which this many workers died is cut in halves, or given up: it may be what kills them."""
HOPELESS = 8
"""After this many items given up with nothing done, no single item is the cause: the stage fails."""


class Pool(Protocol):
    """Workers that do chunks."""

    @property
    def size(self) -> int:
        """How many chunks can be under way now."""
        ...

    def give(self, chunk: Chunk, work: Work) -> None:
        """Have a free worker do a chunk; at most `size` at a time."""
        ...

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        """The chunks that ended meanwhile, after a moment at most; reports to `progress` what was done."""
        ...

    def stop(self) -> None:
        """Ask the workers to stop at the next good moment."""
        ...

    def close(self) -> None:
        """End the workers, whatever they do."""
        ...


@dataclass
class _Stage:
    """The chunks of a stage on their way through a pool."""

    pool: Pool
    work: Work
    progress: Progress
    give_up: Callable[[Chunk, Fault], None]
    waiting: deque[Chunk]
    under_way: set[Chunk] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[Problem, None] = field(default_factory=dict)
    tried: set[tuple[str, ...]] = field(default_factory=set)
    given_up: int = 0

    def give(self) -> None:
        """Give chunks to free workers."""
        while self.waiting and len(self.under_way) < self.pool.size:
            chunk = self.waiting.popleft()
            self.under_way.add(chunk)
            self.pool.give(chunk, self.work)

    def take(self, chunk: Chunk, outcome: Outcome) -> None:
        """Decide what happens to a chunk that has ended."""
        self.under_way.discard(chunk)
        self.counts.update(outcome.counts)
        self.problems |= dict.fromkeys(outcome.problems)
        if outcome.kind == "gone":  # the machine went, which says nothing of the chunk
            self.waiting.appendleft(chunk)
        elif outcome.kind == "lost" and chunk.lost + 1 < LOSSES:
            self.waiting.appendleft(replace(chunk, lost=chunk.lost + 1))
        elif outcome.kind in ("lost", "broken"):
            self._retry(chunk, outcome)

    def _retry(self, chunk: Chunk, outcome: Outcome) -> None:
        """Cut a chunk that failed in halves; try a single item once more, then give it up."""
        if len(chunk.items) > 1:
            self.waiting.extendleft(reversed(chunk.halves()))
            return
        name = (chunk.stage, chunk.by, *map(str, chunk.items))
        if outcome.kind == "broken" and name not in self.tried:
            self.tried.add(name)
            self.waiting.append(chunk)
            return
        fault = outcome.fault or Fault("its worker died", f"{LOSSES} workers died with it")
        self.give_up(chunk, fault)
        self.given_up += 1
        if self.given_up >= HOPELESS and self.progress.count == self.progress.there:
            raise RuntimeError(
                f"nothing of {self.progress.title} succeeds; the last error:\n{fault.details}"
            )


def dispatch(
    pool: Pool,
    chunks: list[Chunk],
    work: Work,
    give_up: Callable[[Chunk, Fault], None],
    progress: Progress,
) -> Counter[str]:
    """Have all chunks done and sum their counts.

    A chunk that fails is cut in halves until the failing item is alone, which is given up after a second
    try; the others go on.

    Raises:
        UserError: Mistakes of the user came up; raised with all of them, once the chunks under way ended.
        Stopped: The user asked to stop.
        RuntimeError: Nothing succeeds.
    """
    stage = _Stage(pool, work, progress, give_up, deque(chunks))
    stopping = False
    while stage.waiting or stage.under_way:
        if interrupt.asked() or stage.problems:
            stage.waiting.clear()
            if not stopping:
                pool.stop()
                stopping = True
        stage.give()
        for chunk, outcome in pool.wait(progress) if stage.under_way or stage.waiting else []:
            stage.take(chunk, outcome)
    if stage.problems:
        raise UserError(list(stage.problems))
    if interrupt.asked():
        raise interrupt.Stopped
    return stage.counts


class Here:
    """This process as the only worker: it does a chunk when `wait` is called."""

    size = 1

    def __init__(self, do: Callable[[Chunk, Work, Progress], Outcome]):
        self._do = do
        self._given: list[tuple[Chunk, Work]] = []

    def give(self, chunk: Chunk, work: Work) -> None:
        self._given.append((chunk, work))

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        given, self._given = self._given, []
        return [(chunk, self._do(chunk, work, progress)) for chunk, work in given]

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
