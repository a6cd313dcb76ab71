"""What workers are given and give back, and a worker itself: the same in every kind of process.

A stage hands over a list of chunks and two functions of its own: `work`, which does a chunk, and `give_up`,
which records that one could not be done. Both are pickled by name. A worker opens the context of the run
once, by the function of its job, and then calls `work(context, chunk, meter)` for every chunk.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unharm.core import interrupt
from unharm.core.errors import Problem, UserError
from unharm.core.progress import Progress, Tally, telling_to

Item = tuple[int, str]
"""One thing to do: a shard (the number of its subject, and its path) or an adapter (0, its content key)."""

ROUNDS = 4
"""Each of several workers gets at least this many chunks, so that none waits long for the last one."""


@dataclass(frozen=True)
class Chunk:
    """Some items of one stage, done by one worker in one go.

    `by` names what does them: an engine, a scorer, a training stage. `here` keeps the chunk in the process
    that leads the run, where the keys of services are. `lost` counts the workers that died with it.
    """

    stage: str
    by: str
    items: tuple[Item, ...]
    here: bool = False
    lost: int = 0

    def halves(self) -> list[Chunk]:
        """The chunk as two, or as one where it has a single item."""
        middle = len(self.items) // 2
        parts = self.items[:middle], self.items[middle:]
        return [Chunk(self.stage, self.by, part, self.here) for part in parts if part]


def cut(stage: str, by: str, items: list[Item], workers: int, most: int, here: bool = False) -> list[Chunk]:
    """Items as chunks of `most` at most; all in one chunk for a single worker, so that it never waits."""
    size = len(items) if here or workers == 1 else min(most, math.ceil(len(items) / (ROUNDS * workers)))
    return [
        Chunk(stage, by, tuple(items[first : first + size]), here)
        for first in range(0, len(items), max(size, 1))
    ]


@dataclass(frozen=True)
class Fault:
    """What went wrong with a chunk.

    `what` is the kind of error and where it was raised. `details` may quote texts of the run: they go into
    the run folder, never to the terminal.
    """

    what: str
    details: str


def fault_of(error: BaseException) -> Fault:
    """The fault of an error; its message may quote a text and stays with the details."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Fault(f"{type(error).__name__}{place}", "".join(traceback.format_exception(error)))


@dataclass
class Outcome:
    """What became of a chunk.

    `done`; `wrong`: mistakes of the user, in `problems`; `broken`: an error of ours or of a library, in
    `fault`; `lost`: its worker died; `gone`: the machine of its worker is gone.
    """

    kind: Literal["done", "wrong", "broken", "lost", "gone"]
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    fault: Fault | None = None


Meter = Tally | Progress
"""Where a chunk reports what it has done."""
Work = Callable[[Any, Chunk, Meter], dict[str, int]]
"""Does a chunk in the context of a run and returns counts that are summed. A function of a module, since it
is pickled by name; items that are done already are skipped."""
GiveUp = Callable[[Any, Chunk, Fault], str]
"""Records that the only item of a chunk could not be done, and returns the line that tells of it."""


@dataclass(frozen=True)
class Job:
    """How a worker opens the context of a run: `open(*arguments)`, pickled by name, without secrets."""

    open: Callable[..., Any]
    arguments: tuple[Any, ...]
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        """Variables that keep a worker's libraries to its own processors."""
        return {"OMP_NUM_THREADS": str(self.threads), "POLARS_MAX_THREADS": str(self.threads)}


def do(context: Any, chunk: Chunk, work: Work, meter: Meter) -> Outcome:
    """Do a chunk in this process and catch whatever it raises."""
    try:
        return Outcome("done", work(context, chunk, meter))
    except UserError as error:
        return Outcome("wrong", problems=error.problems)
    except Exception as error:
        return Outcome("broken", fault=fault_of(error))


class Worker:
    """Does the chunks of one run. It opens the context with its first chunk."""

    def __init__(self, job: Job):
        self.job = job
        self.tally = Tally()
        self._context: Any = None

    def do(self, chunk: Chunk, work: Work) -> Outcome:
        """Do a chunk; see `do`."""
        with telling_to(self.tally.said.append):
            try:
                if self._context is None:
                    self._context = self.job.open(*self.job.arguments)
            except UserError as error:
                return Outcome("wrong", problems=error.problems)
            except Exception as error:
                return Outcome("broken", fault=fault_of(error))
            return do(self._context, chunk, work, self.tally)

    def take(self) -> Tally:
        """What it has done since it was last asked, also while it does a chunk."""
        return self.tally.take()

    def stop(self) -> None:
        """Ask it to stop at the next good moment."""
        interrupt.ask()
