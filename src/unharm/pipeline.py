"""The whole experiment as one list of stages, each from the records before it to its own.

A stage plans its tasks, skips what the store already has under the same key, and does the rest.
It never knows where it runs; only the store touches files.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm import journal, stages, stopping
from unharm.engines.settings import key_of
from unharm.errors import UserError
from unharm.executors.choose import Workers
from unharm.executors.chunks import Piece
from unharm.executors.settings import threads
from unharm.keys import Shard
from unharm.manifest import manifest
from unharm.models import Base, resolve_base
from unharm.naming import content_hash
from unharm.plan import Plan
from unharm.progress import Progress, duration, say
from unharm.records import Subject
from unharm.scoring.choose import Scorers
from unharm.scoring.stage import pending
from unharm.sound import write_sound
from unharm.status import signs_of_life
from unharm.store import Artefact, Store
from unharm.study import Study

if TYPE_CHECKING:
    from unharm.dry_run import Dry

SUBJECTS = 64
"""Subjects whose shards a process remembers."""


@dataclass
class Run:
    """One execution of a study in one run folder."""

    study: Study
    store: Store
    plan: Plan
    unscored: int = 0
    scored: int = 0
    dry: Dry | None = None
    worker: bool = False
    steps: dict[str, str] = field(default_factory=dict)
    stages: list[Progress] = field(default_factory=list)
    _models: dict[str, Any] = field(default_factory=dict)
    _kept: dict[str, Any] = field(default_factory=dict)
    _by_subject: dict[int, dict[str, Shard]] = field(default_factory=dict)

    @cached_property
    def base(self) -> Base:
        if self.dry:
            return Base(self.study.base, Path(), content_hash(["dry run", self.study.base]))
        return resolve_base(self.study)

    @cached_property
    def shards(self) -> list[Shard]:
        """Every shard of the study; known once the adapters are done."""
        return stages.planned_shards(self)

    @cached_property
    def workers(self) -> Workers:
        """What does the work of the stages."""
        return Workers(self)

    def piece(self, shard: Shard) -> Piece:
        """What a worker finds a shard by."""
        return self._numbers[shard.subject], shard.completions.path

    def shard(self, piece: Piece) -> Shard:
        """The shard that a piece names. Raises `UserError` where this process knows none: it sees other
        inputs than the process that leads the run."""
        number, path = piece
        if number not in self._by_subject:
            if len(self._by_subject) >= SUBJECTS:
                self._by_subject.clear()
            found = stages.shards_of(self, self.plan.subjects[number])
            self._by_subject[number] = {s.completions.path: s for s in found}
        if path not in self._by_subject[number]:
            where = f"{self.plan.subjects[number].label} on {socket.gethostname()}"
            todo = "put data, profiles and packs where all machines see the same"
            raise UserError(
                "this worker sees other inputs than the process that leads the run", where, todo
            )
        return self._by_subject[number][path]

    @cached_property
    def _numbers(self) -> dict[Subject, int]:
        return {subject: number for number, subject in enumerate(self.plan.subjects)}

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once in this process."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def look_again(self) -> None:
        """Forgets what it knew of shards: adapters have changed, or other processes have written."""
        self.__dict__.pop("shards", None)
        self._by_subject.clear()
        self.store.refresh("completions", "failed")

    def progress(self, title: str, total: int, unit: str, there: int = 0) -> Progress:
        """The progress of a stage, which `unharm status` tells of too."""
        found = Progress(title, total, unit, there)
        self.stages.append(found)
        return found

    @property
    def failed(self) -> dict[str, str]:
        """The adapters that could not be trained, and why."""
        return {f"{a.label} · {a.stage}": why for a, why in stages.failed_adapters(self).items()}

    @property
    def tokenizer(self) -> Any:
        from unharm.models import load_tokenizer

        if "tokenizer" not in self._models:
            self._models["tokenizer"] = load_tokenizer(self.base, self.study)
        return self._models["tokenizer"]

    @property
    def model(self) -> Any:
        """The frozen base, loaded once for all stages of this process."""
        from unharm.models import load_model

        if "model" not in self._models:
            self._models["model"] = load_model(self.base, self.study)
        return self._models["model"]

    @cached_property
    def scorers(self) -> Scorers:
        """The scorers of the study, each loaded when it is first asked for."""
        from unharm.models import device_of

        shared = self.study.answers  # of several runs; else those of this run are in its folder
        file = Path(shared).expanduser() if shared else self.store.root / "answers.sqlite"
        return Scorers(self.study, self, device_of(self.study), file, self.dry)

    @contextmanager
    def recorded(self, stage: str, artefact: Artefact) -> Iterator[None]:
        """A line in the journal when a task begins and when it is done."""
        done = self.begun(stage, artefact)
        yield
        done()

    @cached_property
    def _journal(self) -> str:
        return journal.name_of(leading=not self.worker and self.store.remote is None)

    def begun(self, stage: str, artefact: Artefact, **about: Any) -> Callable[[], None]:
        """A line in the journal for a task that begins; call what is given when it is done."""
        began = time.monotonic()
        name = self._journal
        journal.note(self.store, name, "begin", stage, artefact, **about)

        def done() -> None:
            seconds = round(time.monotonic() - began, 3)
            journal.note(self.store, name, "done", stage, artefact, seconds=seconds)

        return done


def new_run(study: Study) -> Run:
    """The run of a study in its output folder; nothing is written yet."""
    return Run(study, Store.at(study.output_place), Plan(study))


STAGES: list[tuple[str, Callable[[Run], None]]] = [
    ("profiles", stages.make_profiles),
    ("examples", stages.make_examples),
    ("adapters", stages.make_adapters),
    ("completions", stages.make_completions),
    ("scores", stages.make_scores),
    ("findings", stages.make_findings),
    ("mitigation", stages.make_mitigation),
    ("report", stages.make_report),
]


BEFORE_ENGINES = ("profiles", "examples", "adapters")
"""The stages that ask no server."""


BEFORE_SCORERS = (*BEFORE_ENGINES, "completions")
"""The stages that need no scorer."""


def check_scorers(run: Run) -> None:
    """Looks before any work whether the scorers that have something left to do can be used."""
    names = list(run.plan.scorers)
    if run.store.artefacts("completions"):
        try:
            names = list(dict.fromkeys(part.scorer for part in pending(run)))
        except KeyError:
            run.__dict__.pop("shards", None)  # adapters are not done yet
    run.scorers.check(names)


def run_study(study: Study, last: str = "report") -> Run:
    """Runs a study up to and including the stage `last`; goes on where an earlier run stopped.

    Raises `UserError` before any work starts where the inputs are wrong, or where another
    process holds the run folder.
    """
    run = new_run(study)
    run.plan.check_inputs()
    if last not in BEFORE_ENGINES:
        for where, server in study.servers.items():
            key_of(server, where)
    if last not in BEFORE_SCORERS:
        check_scorers(run)
    execute(run, [name for name, _ in STAGES[: 1 + [n for n, _ in STAGES].index(last)]])
    return run


def execute(run: Run, names: Sequence[str]) -> None:
    """Runs the stages of these names in their order, alone in the run folder; the manifest tells of it."""
    began = time.monotonic()
    store = run.store
    _ = run.base  # is found, or trained, before anything is written
    use_threads(run)
    try:
        run.workers.check()
        with stopping.on_interrupt(), store.lock(), signs_of_life(run):
            record = _begin(run)
            run.steps = {name: "waiting" for name, _ in STAGES if name in names}
            for name, stage in STAGES:
                if stopping.asked():
                    raise stopping.Stopped
                if name in names:
                    run.steps[name] = "running"
                    stage(run)
                    run.steps[name] = "done"
            record["sessions"][-1]["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            record["sessions"][-1]["seconds"] = round(time.monotonic() - began, 1)
            record["unscored"] = run.unscored
            record["left_out_too_long"] = stages.left_out(run)
            write_sound(store, "manifest.json", json.dumps(record, indent=1))
    finally:
        run.workers.leave()
    run.scorers.close()
    say(f"done in {duration(time.monotonic() - began)}: {store}")


def _begin(run: Run) -> dict[str, Any]:
    """Writes what the run is made of, and gives its manifest."""
    store = run.store
    write_sound(store, "study.json", json.dumps(run.study.model_dump(mode="json"), indent=1))
    pack = json.dumps(run.plan.pack.data, indent=1, ensure_ascii=False)
    store.write_plain("prompt_pack.json", pack)
    record = manifest(run.study, run.base, store)
    record["prompt_pack"] = {"name": run.study.prompting.pack, "key": run.plan.pack.key}
    stated = {"source": run.study.analysis.hypotheses, "key": run.plan.stated.key}
    record["hypotheses"] = stated | {"n": len(run.plan.stated.hypotheses)}
    record["scorers"] = {name: asdict(row) for name, row in run.plan.scorers.items()}
    write_sound(store, "manifest.json", json.dumps(record, indent=1))
    return record


def use_threads(run: Run) -> None:
    """Torch uses as many threads here as in every worker: on a CPU the last bits of a sum depend on it."""
    import torch

    torch.set_num_threads(threads(run.study.executor, run.base.bytes))
