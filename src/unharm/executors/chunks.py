"""What workers are given and give back, and a worker itself: the same in every kind of process."""

from __future__ import annotations

import math
import os
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unharm import stopping
from unharm.errors import Problem, UserError
from unharm.progress import Progress, Tally, telling_to

if TYPE_CHECKING:
    from unharm.models import Base
    from unharm.pipeline import Run

Piece = tuple[int, str]
"""The number of a subject and the path of one of its shards; or 0 and the key of an adapter."""


@dataclass(frozen=True)
class Chunk:
    """Some pieces of one stage, done by one worker in one go. `by` is what does them: the engine, the
    scorer, the training stage. `here`: only the process that leads the run can, as where keys are needed;
    `lost`: how many workers died with it."""

    stage: str
    by: str
    pieces: tuple[Piece, ...]
    here: bool = False
    lost: int = 0

    def halves(self) -> list[Chunk]:
        middle = len(self.pieces) // 2
        parts = self.pieces[:middle], self.pieces[middle:]
        return [Chunk(self.stage, self.by, part, self.here) for part in parts if part]


ROUNDS = 4
"""Each of several workers is given work so many times at least, so that none waits long for the last."""


def cut(
    stage: str, by: str, pieces: list[Piece], workers: int, most: int, here: bool = False
) -> list[Chunk]:
    """Pieces as chunks of `most` at most; all in one for the only worker, so that it never waits."""
    size = len(pieces) if here or workers == 1 else min(most, math.ceil(len(pieces) / (ROUNDS * workers)))
    return [
        Chunk(stage, by, tuple(pieces[first : first + size]), here)
        for first in range(0, len(pieces), max(size, 1))
    ]


@dataclass(frozen=True)
class Fault:
    """What went wrong with a chunk: the kind of error and where it was raised, and all that is known of it
    (`details` may quote texts: for the run folder, not for the terminal)."""

    what: str
    details: str


@dataclass
class Outcome:
    """What became of a chunk. `done`; `wrong`: a mistake of the user's, with its problems; `broken`: an
    error of ours or of a library's; `lost`: its worker died; `gone`: the machine of its worker is gone."""

    kind: Literal["done", "wrong", "broken", "lost", "gone"]
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    fault: Fault | None = None


@dataclass(frozen=True)
class Job:
    """Everything that a worker has to know of a run, small and without secrets."""

    study: dict[str, Any]
    root: str
    folder: str
    base: Base
    threads: int
    dry: Any = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that keep a worker's libraries to its own processors."""
        return {"OMP_NUM_THREADS": str(self.threads), "POLARS_MAX_THREADS": str(self.threads)}


def fault_of(error: BaseException) -> Fault:
    """An error by its kind and place; its message may quote a text and stays with the details."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Fault(f"{type(error).__name__}{place}", "".join(traceback.format_exception(error)))


def do(run: Run, chunk: Chunk, tally: Tally | Progress) -> Outcome:
    """Does a chunk in this process, whatever comes of it; what was begun earlier is gone on with."""
    try:
        return Outcome("done", _do(run, chunk, tally))
    except UserError as error:
        return Outcome("wrong", problems=error.problems)
    except Exception as error:
        return Outcome("broken", fault=fault_of(error))


def _do(run: Run, chunk: Chunk, tally: Tally | Progress) -> dict[str, int]:
    if chunk.stage == "adapters":
        from unharm.training.stage import train_chunk

        return train_chunk(run, chunk, tally)
    if chunk.stage == "completions":
        from unharm.engines.stage import complete_chunk

        return complete_chunk(run, chunk, tally)
    from unharm.scoring.stage import score_chunk

    return score_chunk(run, chunk, tally)


class Worker:
    """Does chunks of one run; opens the run with the first, loads base, engines and scorers once."""

    def __init__(self, job: Job):
        self.job = job
        self.tally = Tally()
        self._run: Run | None = None

    def do(self, chunk: Chunk) -> Outcome:
        with telling_to(self.tally.said.append):
            try:
                run = self._opened()
            except UserError as error:
                return Outcome("wrong", problems=error.problems)
            except Exception as error:
                return Outcome("broken", fault=fault_of(error))
            return do(run, chunk, self.tally)

    def take(self) -> Tally:
        """What it has done since it was last asked; while a chunk is being done, too."""
        return self.tally.take()

    def stop(self) -> None:
        """Asks it to stop at the next good moment."""
        stopping.ask()

    def _opened(self) -> Run:
        import torch

        from unharm.models import same_base
        from unharm.pipeline import Run
        from unharm.plan import Plan
        from unharm.store import Store
        from unharm.study import Study

        torch.set_num_threads(self.job.threads)
        if self._run is None:
            if Path(self.job.folder).is_dir():
                os.chdir(self.job.folder)  # relative paths of a study count from there
            study = Study.model_validate(self.job.study)
            plan = Plan(study, sizes_only=self.job.dry is not None)
            run = Run(study, Store.at(self.job.root), plan, dry=self.job.dry, worker=True)
            run.__dict__["base"] = same_base(self.job.base, study)
            self._run = run
        return self._run
