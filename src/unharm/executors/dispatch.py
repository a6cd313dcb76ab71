"""Distribution of chunks to workers, with retries: a failing chunk is split until its bad item is alone."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from unharm.core import interrupt
from unharm.core.errors import Problem, UserError
from unharm.core.progress import Progress
from unharm.executors.chunks import Chunk, Fault, Outcome, Work

MAX_DEATHS = 3
"""A chunk is split or given up after this many workers died while running it: it may be the cause."""
MAX_GIVEN_UP = 8
"""The stage fails after this many items were given up and none succeeded: no single item is the cause."""


class Pool(Protocol):
    """A set of workers."""

    @property
    def size(self) -> int:
        """How many chunks can run at a time now."""
        ...

    def give(self, chunk: Chunk, work: Work) -> None:
        """Start a chunk on a free worker. At most `size` chunks may run at a time."""
        ...

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        """Return the chunks that ended, after a short wait at most, and report their progress."""
        ...

    def stop(self) -> None:
        """Ask the workers to stop as soon as their current work is stored."""
        ...

    def close(self) -> None:
        """End the workers at once."""
        ...


@dataclass
class _Stage:
    """The state of a stage while a pool runs its chunks."""

    pool: Pool
    work: Work
    progress: Progress
    give_up: Callable[[Chunk, Fault], None]
    waiting: deque[Chunk]
    running: set[Chunk] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[Problem, None] = field(default_factory=dict)
    tried: set[tuple[str, ...]] = field(default_factory=set)
    given_up: int = 0

    def give(self) -> None:
        """Start waiting chunks on free workers."""
        while self.waiting and len(self.running) < self.pool.size:
            chunk = self.waiting.popleft()
            self.running.add(chunk)
            self.pool.give(chunk, self.work)

    def take(self, chunk: Chunk, outcome: Outcome) -> None:
        """Decide what happens to a chunk that has ended."""
        self.running.discard(chunk)
        self.counts.update(outcome.counts)
        self.problems |= dict.fromkeys(outcome.problems)
        if outcome.kind == "node_lost":  # not the fault of the chunk
            self.waiting.appendleft(chunk)
        elif outcome.kind == "worker_died" and chunk.deaths + 1 < MAX_DEATHS:
            self.waiting.appendleft(replace(chunk, deaths=chunk.deaths + 1))
        elif outcome.kind in ("worker_died", "failed"):
            self._retry(chunk, outcome)

    def _retry(self, chunk: Chunk, outcome: Outcome) -> None:
        """Split a failed chunk. A single item is tried once more, then given up."""
        if len(chunk.items) > 1:
            self.waiting.extendleft(reversed(chunk.halves()))
            return
        name = (chunk.stage, chunk.handler, *map(str, chunk.items))
        if outcome.kind == "failed" and name not in self.tried:
            self.tried.add(name)
            self.waiting.append(chunk)
            return
        fault = outcome.fault or Fault("its worker died", f"{MAX_DEATHS} workers died with it")
        self.give_up(chunk, fault)
        self.given_up += 1
        if self.given_up >= MAX_GIVEN_UP and self.progress.count == self.progress.finished:
            raise RuntimeError(
                f"every item of {self.progress.title} fails; the last error:\n{fault.details}"
            )


def dispatch(
    pool: Pool,
    chunks: list[Chunk],
    work: Work,
    give_up: Callable[[Chunk, Fault], None],
    progress: Progress,
) -> Counter[str]:
    """Run all chunks and return the sum of their counts.

    A failing chunk is split until the failing item is alone. That item is given up after a second try. The
    other items continue.

    Raises:
        UserError: The user's input has problems. Raised with all of them after running chunks have ended.
        Stopped: The user asked to stop.
        RuntimeError: Every item fails.
    """
    stage = _Stage(pool, work, progress, give_up, deque(chunks))
    stopping = False
    while stage.waiting or stage.running:
        if interrupt.stop_requested() or stage.problems:
            stage.waiting.clear()
            if not stopping:
                pool.stop()
                stopping = True
        stage.give()
        for chunk, outcome in pool.wait(progress) if stage.running or stage.waiting else []:
            stage.take(chunk, outcome)
    if stage.problems:
        raise UserError(list(stage.problems))
    if interrupt.stop_requested():
        raise interrupt.Stopped
    return stage.counts


class InProcess:
    """A pool with this process as its only worker. `wait` runs the chunk.

    This process cannot replace itself: `wait` raises `UserError` when its accelerator has failed.
    """

    size = 1

    def __init__(self, run: Callable[[Chunk, Work, Progress], Outcome]):
        self._run = run
        self._given: list[tuple[Chunk, Work]] = []

    def give(self, chunk: Chunk, work: Work) -> None:
        self._given.append((chunk, work))

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        given, self._given = self._given, []
        ended = [(chunk, self._run(chunk, work, progress)) for chunk, work in given]
        for _, outcome in ended:
            if outcome.dead:
                raise UserError(
                    f"the accelerator failed ({outcome.fault.summary if outcome.fault else 'unknown'})",
                    "executor",
                    "what was made is kept, and the same command resumes; 'executor.workers: auto' gives "
                    "the work a process of its own, which is then started again",
                )
        return ended

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
