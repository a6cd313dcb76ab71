"""Chunks, their outcomes, and the worker that runs them, the same for every executor.

A stage passes a list of chunks and two functions: `work` runs a chunk, `give_up` records that an item
failed. Both are pickled by name. A worker opens the run once, with the function in its job, and then
calls `work(context, chunk, meter)` for each chunk.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unharm.core import interrupt
from unharm.core.environment import missing_defaults
from unharm.core.errors import Problem, UserError
from unharm.core.models.device_fault import accelerator_dead
from unharm.core.progress import Progress, Tally, telling_to

Item = tuple[int, str]
"""A unit of work: a shard (number of its subject, path) or an adapter (0, content key)."""

CHUNKS_PER_WORKER = 4
"""Least number of chunks per worker if there are several, so that no worker waits long at the end."""


@dataclass(frozen=True)
class Chunk:
    """Items of one stage that one worker processes together.

    Attributes:
        stage: The stage.
        handler: What processes the items: the name of an engine, scorer or training stage.
        items: The items.
        local: Whether the leading process must run the chunk, because it has the API keys.
        deaths: How many workers died while they ran it.
    """

    stage: str
    handler: str
    items: tuple[Item, ...]
    local: bool = False
    deaths: int = 0

    def halves(self) -> list[Chunk]:
        """Split the chunk in two. A chunk with a single item is returned alone."""
        middle = len(self.items) // 2
        parts = self.items[:middle], self.items[middle:]
        return [Chunk(self.stage, self.handler, part, self.local) for part in parts if part]


def make_chunks(
    stage: str, handler: str, items: list[Item], workers: int, max_items: int, local: bool = False
) -> list[Chunk]:
    """Split items into chunks.

    Args:
        stage: The stage.
        handler: The engine, scorer or training stage that processes the items.
        items: The items, in order.
        workers: How many workers share them. A single worker gets one chunk with all items.
        max_items: Largest number of items of a chunk.
        local: Whether the leading process must run the chunks.
    """
    whole = local or workers == 1
    size = len(items) if whole else min(max_items, math.ceil(len(items) / (CHUNKS_PER_WORKER * workers)))
    return [
        Chunk(stage, handler, tuple(items[first : first + size]), local)
        for first in range(0, len(items), max(size, 1))
    ]


@dataclass(frozen=True)
class Fault:
    """An error of a chunk.

    Attributes:
        summary: The type of the error and the line that raised it.
        details: The traceback. It may quote texts of the run, so it is written to the run folder and
            never to the terminal.
    """

    summary: str
    details: str


def describe_error(error: BaseException) -> Fault:
    """Describe an exception. Its message may quote a text, so it is only in the details."""
    frames = traceback.extract_tb(error.__traceback__)
    location = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Fault(f"{type(error).__name__}{location}", "".join(traceback.format_exception(error)))


@dataclass
class Outcome:
    """The result of a chunk.

    Attributes:
        kind: `done`; `user_error`, with `problems`; `failed`, by a bug or a library, with `fault`;
            `worker_died`; or `node_lost`, when the machine of its worker disappeared.
        counts: Counts to sum over chunks.
        problems: Problems of the user's input.
        fault: The error of a failed chunk.
        dead: Whether the accelerator failed, so that this worker can run no other chunk.
    """

    kind: Literal["done", "user_error", "failed", "worker_died", "node_lost"]
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    fault: Fault | None = None
    dead: bool = False


Meter = Tally | Progress
"""Receives the progress of a chunk."""
Work = Callable[[Any, Chunk, Meter], dict[str, int]]
"""Runs a chunk in the context of a run and returns counts to sum. It must be a module-level function,
because it is pickled by name. It skips items that are done already."""
GiveUp = Callable[[Any, Chunk, Fault], str]
"""Records that the only item of a chunk failed and returns a line that reports it."""


@dataclass(frozen=True)
class Job:
    """How a worker opens the run: `open(*arguments)`, pickled by name. It contains no secrets."""

    open: Callable[..., Any]
    arguments: tuple[Any, ...]
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for a worker's libraries: their threads, and what the user left unset."""
        number = str(self.threads)
        return missing_defaults() | {"OMP_NUM_THREADS": number, "POLARS_MAX_THREADS": number}


def run_chunk(context: Any, chunk: Chunk, work: Work, meter: Meter) -> Outcome:
    """Run a chunk in this process and turn exceptions into an outcome."""
    try:
        return Outcome("done", work(context, chunk, meter))
    except Exception as error:
        return _outcome_of(error)


def _outcome_of(error: Exception) -> Outcome:
    """Return the outcome of a chunk that raised. An accelerator that failed is no mistake of the user."""
    if accelerator_dead():
        return Outcome("failed", fault=describe_error(error), dead=True)
    if isinstance(error, UserError):
        return Outcome("user_error", problems=error.problems)
    return Outcome("failed", fault=describe_error(error))


class Worker:
    """Runs chunks of one run. It opens the run with the first chunk."""

    def __init__(self, job: Job):
        self.job = job
        self.tally = Tally()
        self._context: Any = None

    def run_chunk(self, chunk: Chunk, work: Work) -> Outcome:
        """Run a chunk; see `run_chunk`."""
        with telling_to(self.tally.said.append):
            try:
                if self._context is None:
                    self._context = self.job.open(*self.job.arguments)
            except Exception as error:
                return _outcome_of(error)
            return run_chunk(self._context, chunk, work, self.tally)

    def take(self) -> Tally:
        """Return the progress since the last call and reset it. Can be called while a chunk runs."""
        return self.tally.take()

    def stop(self) -> None:
        """Ask the worker to stop as soon as its current work is stored."""
        interrupt.request_stop()
