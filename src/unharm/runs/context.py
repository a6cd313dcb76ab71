"""The context of a run: study, store, plan, base, and the objects that a process creates once.

All other modules of `run/` take a `Run`; this module imports no stage. Use a `Run` with `with`: on exit it
closes workers, engines and scorers, also after an error. Stored results can still be read afterwards.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, runtime_checkable

from unharm.core.hashing import content_hash
from unharm.core.models.memory import free_device_memory
from unharm.core.pace import Dry
from unharm.core.progress import Progress
from unharm.executors.chunks import Job
from unharm.executors.workers import Workers
from unharm.runs.base import (
    Base,
    device_of,
    load_guard_engine,
    load_model,
    load_tokenizer,
    resolve_base,
    same_base,
)
from unharm.runs.plan import Plan
from unharm.scoring.registry import Scorers
from unharm.store import journal
from unharm.store.checked import read_checked
from unharm.store.store import Artefact, Store
from unharm.study.spec import Study

T = TypeVar("T")


@dataclass
class LoadedBase:
    """The base of a run with its tokenizer and model, each loaded once per process on first use.

    Attributes:
        study: The study.
        dry: Settings of a dry run; None for a real run.
        resolved: The base as the leading process resolved it; None in that process itself.
        check: Whether the base is checked for completeness; see `resolve_base`.
    """

    study: Study
    dry: Dry | None = None
    resolved: Base | None = None
    check: bool = True

    @cached_property
    def base(self) -> Base:
        """The base on this machine. The toy base is trained on first use."""
        if self.dry:
            return Base(self.study.base, Path(), content_hash(["dry run", self.study.base]))
        if self.resolved:
            return same_base(self.resolved, self.study)
        return resolve_base(self.study, self.check)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the base."""
        return load_tokenizer(self.base, self.study)

    @cached_property
    def model(self) -> Any:
        """The frozen base, on the study's device."""
        return load_model(self.base, self.study)

    def free(self) -> None:
        """Let go of the model. It is loaded again when it is next asked for."""
        with suppress(AttributeError):
            del self.model
        gc.collect()
        free_device_memory()


@runtime_checkable
class Closable(Protocol):
    """An object that holds memory, files or processes until it is closed."""

    def close(self) -> None: ...


@dataclass
class ProcessCache:
    """Objects that a process creates once per run, by class and name."""

    _objects: dict[tuple[type, str], object] = field(default_factory=dict)

    def get(self, kind: type[T], make: Callable[[], T], name: str = "") -> T:
        """Return the object of a class and name. `make` creates it on first use."""
        if (kind, name) not in self._objects:
            self._objects[kind, name] = make()
        cached = self._objects[kind, name]
        assert isinstance(cached, kind)
        return cached

    def forget(self, kind: type) -> None:
        """Drop all objects of a class."""
        for key in [k for k in self._objects if k[0] is kind]:
            del self._objects[key]

    def close(self) -> None:
        """Close all objects that can be closed, and drop everything."""
        for cached in self._objects.values():
            if isinstance(cached, Closable):
                cached.close()
        self._objects.clear()


@dataclass
class Run:
    """One execution of a study in one run folder.

    Attributes:
        dry: Settings of a dry run; None for a real run.
        leading: Whether this process leads the run; false in workers.
        shared_base: The loaded base of another run of this process, to use it again.
        cache: Objects that stages reuse from one chunk to the next.
        steps: Each stage of this session: `waiting`, `running` or `done`.
        meters: The progress of each stage that counts items, for `unharm status`.
        scored: Number of scores of all scorers, set by the scores stage.
        unscored: Number of completions without a score, over all scorers.
        loaded: The base with its tokenizer and model, loaded on first use.
        workers: The workers of the executor.
    """

    study: Study
    store: Store
    plan: Plan
    dry: Dry | None = None
    leading: bool = True
    shared_base: InitVar[LoadedBase | None] = None
    cache: ProcessCache = field(default_factory=ProcessCache)
    steps: dict[str, str] = field(default_factory=dict)
    meters: list[Progress] = field(default_factory=list)
    scored: int = 0
    unscored: int = 0

    def __post_init__(self, shared_base: LoadedBase | None) -> None:
        self._scorers: Scorers | None = None
        self.loaded = shared_base or LoadedBase(self.study, self.dry)
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
        """Close workers, engines and scorers. Can be called more than once."""
        self.workers.disconnect()
        self.cache.close()
        if self._scorers is not None:
            self._scorers.close()

    @property
    def base(self) -> Base:
        """The base on this machine."""
        return self.loaded.base

    @property
    def scorers(self) -> Scorers:
        """The scorers of the study, each loaded on first use."""
        if self._scorers is None:
            self._scorers = self._new_scorers()
        return self._scorers

    def _new_scorers(self) -> Scorers:
        shared = self.study.answers  # a file that several runs can share
        file = Path(shared).expanduser() if shared else self.store.answers_file
        device = device_of(self.study)
        return Scorers(self.study.scoring, self.loaded, device, file, self.dry, load_guard_engine)

    def progress(self, title: str, total: int, unit: str, finished: int = 0) -> Progress:
        """Return the progress of a stage; `finished` of its items were done by earlier runs."""
        meter = Progress(title, total, unit, finished)
        self.meters.append(meter)
        return meter

    @contextmanager
    def journaled(self, stage: str, artefact: Artefact) -> Iterator[None]:
        """Record the begin and the end of a task in the journal."""
        done = self.begin_task(stage, artefact)
        yield
        done()

    def begin_task(self, stage: str, artefact: Artefact, **details: Any) -> Callable[[], None]:
        """Record the begin of a task in the journal. Call the returned function at its end."""
        began = time.monotonic()
        name = self._journal
        journal.add_event(self.store, name, "begin", stage, artefact, **details)

        def done() -> None:
            seconds = round(time.monotonic() - began, 3)
            journal.add_event(self.store, name, "done", stage, artefact, seconds=seconds)

        return done

    @cached_property
    def _journal(self) -> str:
        return journal.journal_name(leading=self.leading and self.store.remote is None)

    def _job(self, threads: int, device: str) -> Job:
        """Return how a worker with this many threads opens this run on a device.

        A worker that sees only `cuda:1` of this machine has it under the name `cuda`.
        """
        study = self.study.model_dump(mode="json")
        study["engine"]["device"] = device
        arguments = (study, str(self.store.location), str(Path.cwd()), self.base, threads, self.dry)
        return Job(open_in_worker, arguments, threads)


def new_run(study: Study) -> Run:
    """Create the run of a study in its output folder. Nothing is written yet."""
    store = Store.open(study.output_location)
    study = _with_engine_decided(study, store)
    return Run(study, store, Plan(study))


def _with_engine_decided(study: Study, store: Store) -> Study:
    """Return the study with the engine of single samples decided: as this run began, or by this machine.

    A run that began on one machine keeps its completions when it goes on, or is reported, on another.
    """
    engine = study.engine
    if engine.name != "auto" or engine.single_samples != "auto":
        return study
    before = json.loads(read_checked(store, "study.json") or "{}").get("engine", {})
    if before.get("name") == "auto" and before.get("single_samples") in ("hf", "vllm"):
        engine = engine.model_copy(update={"single_samples": before["single_samples"]})
    return study.model_copy(update={"engine": engine.decided()})


def open_in_worker(
    study: dict[str, Any], place: str, folder: str, base: Base, threads: int, dry: Dry | None
) -> Run:
    """Open a run in a worker, with the same study and store and its own plan.

    Args:
        study: The study as plain data.
        place: The run folder, or its URL.
        folder: The current folder of the leading process; relative paths are relative to it.
        base: The base as the leading process resolved it.
        threads: Number of torch threads.
        dry: Settings of a dry run; None for a real run.
    """
    import torch

    torch.set_num_threads(threads)
    if Path(folder).is_dir():
        os.chdir(folder)
    spec = Study.model_validate(study)
    plan = Plan(spec, sizes_only=dry is not None)
    loaded = LoadedBase(spec, dry, base)
    return Run(spec, Store.open(place), plan, dry=dry, leading=False, shared_base=loaded)
