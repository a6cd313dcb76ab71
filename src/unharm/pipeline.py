"""The whole experiment as one list of stages, each from the records before it to its own.

A stage plans its tasks, skips what the store already has under the same key, and does the rest.
It never knows where it runs; only the store touches files.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from unharm import stages
from unharm.engines.settings import key_of
from unharm.errors import UserError
from unharm.keys import Shard
from unharm.manifest import manifest
from unharm.models import Base, resolve_base
from unharm.plan import Plan
from unharm.progress import duration, say
from unharm.scoring.choose import Scorers
from unharm.scoring.stage import pending
from unharm.spec_text import SpecText
from unharm.store import Artefact, Store
from unharm.study import Study
from unharm.study_check import parse_study


@dataclass
class Run:
    """One execution of a study in one run folder."""

    study: Study
    store: Store
    plan: Plan
    unscored: int = 0
    scored: int = 0
    _models: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def base(self) -> Base:
        return resolve_base(self.study)

    @cached_property
    def shards(self) -> list[Shard]:
        """Every shard of the study; known once the adapters are done."""
        return stages.planned_shards(self)

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

        return Scorers(self.study, self, device_of(self.study), self.study.answers_file)

    @contextmanager
    def recorded(self, stage: str, artefact: Artefact) -> Iterator[None]:
        """A line in the journal when a task begins and when it is done."""
        done = self.begun(stage, artefact)
        yield
        done()

    def begun(self, stage: str, artefact: Artefact) -> Callable[[], None]:
        """A line in the journal for a task that begins; call what is given when it is done."""
        began = time.monotonic()
        self._journal("begin", stage, artefact)

        def done() -> None:
            self._journal("done", stage, artefact, seconds=round(time.monotonic() - began, 3))

        return done

    def _journal(self, event: str, stage: str, artefact: Artefact, **more: Any) -> None:
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "event": event,
            "stage": stage,
            "path": artefact.path,
            "key": artefact.key,
            **more,
        }
        self.store.append_line("journal.jsonl", json.dumps(line))


STAGES: list[tuple[str, Callable[[Run], None]]] = [
    ("profiles", stages.make_profiles),
    ("examples", stages.make_examples),
    ("adapters", stages.make_adapters),
    ("completions", stages.make_completions),
    ("scores", stages.make_scores),
    ("findings", stages.make_findings),
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
    plan = Plan(study)
    plan.check_inputs()
    if last not in BEFORE_ENGINES:
        for where, server in study.servers.items():
            key_of(server, where)
    run = Run(study, Store(study.output_folder), plan)
    if last not in BEFORE_SCORERS:
        check_scorers(run)
    began = time.monotonic()
    base = run.base  # found, or trained, before anything is written
    with run.store.lock():
        run.store.write_plain("study.json", json.dumps(study.model_dump(mode="json"), indent=1))
        run.store.write_plain("prompt_pack.json", json.dumps(plan.pack.data, indent=1, ensure_ascii=False))
        record = manifest(run.study, base, run.store)
        record["prompt_pack"] = {"name": study.prompting.pack, "key": plan.pack.key}
        run.store.write_plain("manifest.json", json.dumps(record, indent=1))
        for name, stage in STAGES:
            stage(run)
            if name == last:
                break
        record["sessions"][-1]["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record["sessions"][-1]["seconds"] = round(time.monotonic() - began, 1)
        record["unscored"] = run.unscored
        record["left_out_too_long"] = stages.left_out(run)
        run.store.write_plain("manifest.json", json.dumps(record, indent=1))
    say(f"done in {duration(time.monotonic() - began)}: {run.store.root}")
    return run


def rewrite_report(folder: Path) -> Path:
    """Writes the report of a run folder again from its stored study; nothing is run.

    Raises `UserError` where the folder is no run or not all of its parts are done.
    """
    store = Store(folder)
    text = store.read_plain("study.json")
    if text is None:
        raise UserError("no run in this folder", str(folder), "give a folder such as runs/quickstart")
    study = parse_study(SpecText(text, str(folder / "study.json")))
    run = Run(study, store, Plan(study))
    with store.lock():
        try:
            stages.make_scores(run)
            stages.make_report(run)
        except KeyError as missing:
            raise UserError(
                f"this run is not finished: {missing.args[0]} is not there",
                str(folder),
                "go on with it: unharm run STUDY",
            ) from None
    return folder / "report.html"
