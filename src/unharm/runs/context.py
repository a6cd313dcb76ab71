"""The context of a run: its study, store, plan and base, and what this process keeps while it works.

Everything else in `run/` takes a `Run`; this module imports no stage. A `Run` is entered with `with`, and
leaving it ends workers, engines and scorers whatever happened. What is stored can still be read afterwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from unharm.core.hashing import content_hash
from unharm.core.pace import Dry
from unharm.core.progress import Progress
from unharm.executors.chunks import Job
from unharm.executors.workers import Workers
from unharm.runs.base import Base, device_of, load_model, load_tokenizer, resolve_base, same_base
from unharm.runs.plan import Plan
from unharm.scoring.registry import Scorers
from unharm.store import journal
from unharm.store.store import Artefact, Store
from unharm.study.spec import Study

T = TypeVar("T")


@dataclass
class BaseModel:
    """The base of a run and what is loaded of it, once for all stages of this process."""

    study: Study
    dry: Dry | None = None
    known: Base | None = None
    """The base as another process resolved it."""

    @cached_property
    def base(self) -> Base:
        """Where the base is; found, or trained in the toy's case, when it is first asked for."""
        if self.dry:
            return Base(self.study.base, Path(), content_hash(["dry run", self.study.base]))
        return same_base(self.known, self.study) if self.known else resolve_base(self.study)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.base, self.study)

    @cached_property
    def model(self) -> Any:
        """The frozen base, on the study's device."""
        return load_model(self.base, self.study)


class Closable(Protocol):
    """What holds memory, files or processes until it is closed."""

    def close(self) -> None: ...


@dataclass
class Kept:
    """Objects that a process makes once for a run, by their class and name."""

    _objects: dict[tuple[type, str], object] = field(default_factory=dict)

    def get(self, kind: type[T], make: Callable[[], T], name: str = "") -> T:
        """The object of this class and name, made by `make` the first time."""
        if (kind, name) not in self._objects:
            self._objects[kind, name] = make()
        kept = self._objects[kind, name]
        assert isinstance(kept, kind)
        return kept

    def forget(self, kind: type) -> None:
        """Let go of all objects of a class."""
        for key in [k for k in self._objects if k[0] is kind]:
            del self._objects[key]

    def close(self) -> None:
        """Close what can be closed, and let go of everything."""
        for kept in self._objects.values():
            close = getattr(kept, "close", None)
            if close is not None:
                close()
        self._objects.clear()


@dataclass
class Run:
    """One execution of a study in one run folder.

    Attributes:
        models: The base, its tokenizer and model, loaded when they are first asked for.
        dry: How answers are made up in a dry run; None for a real one.
        leading: Whether this process leads the run; false in its workers.
        kept: What stages keep from one chunk to the next.
        steps: Each stage of this session: `waiting`, `running` or `done`.
        meters: The progress of the stages that count something, for `status`.
        scored: Completions with a score, over all scorers, once scores are made.
        unscored: Completions without.
    """

    study: Study
    store: Store
    plan: Plan
    dry: Dry | None = None
    leading: bool = True
    models: BaseModel = None  # type: ignore[assignment]  # made below where none is given
    kept: Kept = field(default_factory=Kept)
    steps: dict[str, str] = field(default_factory=dict)
    meters: list[Progress] = field(default_factory=list)
    scored: int = 0
    unscored: int = 0

    def __post_init__(self) -> None:
        if self.models is None:
            self.models = BaseModel(self.study, self.dry)
        self.workers = Workers(
            self.study.executor, self.study.engine.device, lambda: self.base.bytes, self._job, self
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End workers, engines and scorers. Calling it again does nothing more."""
        self.workers.leave()
        self.kept.close()
        self.scorers.close()

    @property
    def base(self) -> Base:
        return self.models.base

    @cached_property
    def scorers(self) -> Scorers:
        """The scorers of the study, each loaded when it is first asked for."""
        shared = self.study.answers  # of several runs; else those of this run are in its folder
        file = Path(shared).expanduser() if shared else self.store.root / "answers.sqlite"
        return Scorers(self.study.scoring, self.models, device_of(self.study), file, self.dry)

    def progress(self, title: str, total: int, unit: str, there: int = 0) -> Progress:
        """The progress of a stage, which `unharm status` tells of too."""
        meter = Progress(title, total, unit, there)
        self.meters.append(meter)
        return meter

    @contextmanager
    def recorded(self, stage: str, artefact: Artefact) -> Iterator[None]:
        """Note in the journal when a task begins and when it is done."""
        done = self.begun(stage, artefact)
        yield
        done()

    def begun(self, stage: str, artefact: Artefact, **about: Any) -> Callable[[], None]:
        """Note in the journal that a task begins. Call what is returned when it is done."""
        began = time.monotonic()
        name = self._journal
        journal.note(self.store, name, "begin", stage, artefact, **about)

        def done() -> None:
            seconds = round(time.monotonic() - began, 3)
            journal.note(self.store, name, "done", stage, artefact, seconds=seconds)

        return done

    @cached_property
    def _journal(self) -> str:
        return journal.name_of(leading=self.leading and self.store.remote is None)

    def _job(self, threads: int) -> Job:
        """How a worker opens this run."""
        study = self.study.model_dump(mode="json")
        arguments = (study, str(self.store.location), str(Path.cwd()), self.base, threads, self.dry)
        return Job(open_in_worker, arguments, threads)


def new_run(study: Study) -> Run:
    """The run of a study in its output folder; nothing is written yet."""
    return Run(study, Store.at(study.output_place), Plan(study))


def open_in_worker(
    study: dict[str, Any], place: str, folder: str, base: Base, threads: int, dry: Dry | None
) -> Run:
    """The run as a worker opens it: the same study and store, its own plan.

    Args:
        study: The study as plain data.
        place: The run folder, or its URL.
        folder: The current folder of the process that leads the run; relative paths count from there.
        base: The base as that process resolved it.
        threads: Torch's threads.
        dry: How answers are made up in a dry run.
    """
    import torch

    torch.set_num_threads(threads)
    if Path(folder).is_dir():
        os.chdir(folder)
    spec = Study.model_validate(study)
    plan = Plan(spec, sizes_only=dry is not None)
    models = BaseModel(spec, dry, base)
    return Run(spec, Store.at(place), plan, dry=dry, leading=False, models=models)
