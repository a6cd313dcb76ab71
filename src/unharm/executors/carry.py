"""How the chunks of a stage get done: given to workers, given again, cut smaller, given up in the end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from unharm import stopping
from unharm.errors import Problem, UserError
from unharm.executors.chunks import Chunk, Fault, Outcome
from unharm.progress import Progress

LOSSES = 3
"""A chunk whose worker died so often is cut smaller, or given up: it may be what kills them."""
HOPELESS = 8
"""After so many pieces given up and nothing done at all, the fault is no single piece's."""


class Pool(Protocol):
    """Workers that do chunks."""

    @property
    def size(self) -> int:
        """How many chunks at a time, as things stand."""
        ...

    def give(self, chunk: Chunk) -> None:
        """Has a free worker do a chunk; at most `size` at a time."""
        ...

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        """What has become of chunks meanwhile, after a moment at most; tells `progress` what was done."""
        ...

    def stop(self) -> None:
        """Asks the workers to stop at the next good moment."""
        ...

    def close(self) -> None:
        """Ends the workers, whatever they do."""
        ...


GiveUp = Callable[[Chunk, Fault], None]


def carry_out(pool: Pool, chunks: list[Chunk], progress: Progress, give_up: GiveUp) -> Counter[str]:
    """Has all chunks done and sums their counts. A chunk that fails is cut in halves until the piece that
    fails is alone, which is given up after a second try; the others go on.

    Raises `UserError` with every mistake of the user that came up, once what was on its way is done;
    `Stopped` where the user asked to stop; `RuntimeError` where nothing succeeds.
    """
    waiting = deque(chunks)
    going: set[Chunk] = set()
    counts: Counter[str] = Counter()
    problems: dict[Problem, None] = {}
    tried: set[tuple[str, ...]] = set()
    given_up = 0
    stopping_told = False
    while waiting or going:
        if stopping.asked() or problems:
            waiting.clear()
            if not stopping_told:
                pool.stop()
                stopping_told = True
        while waiting and len(going) < pool.size:
            chunk = waiting.popleft()
            going.add(chunk)
            pool.give(chunk)
        for chunk, outcome in pool.wait(progress) if going or waiting else []:
            going.discard(chunk)
            counts.update(outcome.counts)
            problems |= dict.fromkeys(outcome.problems)
            if outcome.kind == "gone":  # which says nothing of the chunk
                waiting.appendleft(chunk)
                continue
            if outcome.kind == "lost" and chunk.lost + 1 < LOSSES:
                waiting.appendleft(replace(chunk, lost=chunk.lost + 1))
                continue
            if outcome.kind in ("done", "wrong"):
                continue
            if len(chunk.pieces) > 1:
                waiting.extendleft(reversed(chunk.halves()))
                continue
            name_of = (chunk.stage, chunk.by, *map(str, chunk.pieces))
            fault = outcome.fault or Fault("its worker died", f"{LOSSES} workers died with it")
            if outcome.kind == "broken" and name_of not in tried:
                tried.add(name_of)
                waiting.append(chunk)
                continue
            give_up(chunk, fault)
            given_up += 1
            if given_up >= HOPELESS and progress.count == progress.there:
                raise RuntimeError(
                    f"nothing of {progress.title} succeeds; the last error:\n{fault.details}"
                )
    if problems:
        raise UserError(list(problems))
    if stopping.asked():
        raise stopping.Stopped
    return counts


class Here:
    """The process that leads the run, as the only worker: it does a chunk when it is waited for."""

    size = 1

    def __init__(self, do: Callable[[Chunk, Progress], Outcome]):
        self._do = do
        self._given: list[Chunk] = []

    def give(self, chunk: Chunk) -> None:
        self._given.append(chunk)

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        given, self._given = self._given, []
        return [(chunk, self._do(chunk, progress)) for chunk in given]

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
