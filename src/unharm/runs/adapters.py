"""The adapters of a study in its run folder: what each is made from, where it goes, whether it failed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from unharm.core.hashing import content_key
from unharm.core.models.peft_folder import ADAPTER_FILES
from unharm.core.records import Profile, Subject
from unharm.runs import keys
from unharm.runs.context import Run
from unharm.runs.plan import AdapterPlan
from unharm.store.store import Artefact

CURVES: dict[str, Any] = {
    "arm": pl.String,
    "stage": pl.String,
    "profile": pl.String,
    "best_epoch": pl.Int64,
    "curve": pl.String,
    "steps": pl.Int64,
    "loss": pl.Float64,
}
"""Mean loss in nats per label token since the point before (`train`) or after an epoch (`valid`)."""


@dataclass(frozen=True)
class AdapterTask:
    """An adapter of a run, resolved once.

    Attributes:
        plan: What it is: arm, stage, profile, and the recipe that the study has for it.
        artefact: The adapter's folder and key in the run.
        failed: The file that says why it is left out, where it is.
        examples: What it learns from; None for an adapter made elsewhere.
        parent: The adapter that its training starts from.
    """

    plan: AdapterPlan
    artefact: Artefact
    failed: Artefact
    examples: Artefact | None
    parent: AdapterTask | None

    @property
    def key(self) -> str:
        """Its content key; profiles of other names with the same importances share theirs."""
        return self.artefact.key

    @property
    def label(self) -> str:
        return self.plan.label


class AdapterTasks:
    """All adapters of a run, each after its parent."""

    def __init__(self, run: Run):
        made: dict[AdapterPlan, AdapterTask] = {}
        for plan in run.plan.adapters:
            artefact = keys.adapter_artefact(run.plan, plan, run.base.key)
            made[plan] = AdapterTask(
                plan,
                artefact,
                Artefact(f"failed/{artefact.path}.json", artefact.key),
                None if plan.source else keys.examples_artefact(run.plan, plan),
                made[plan.parent] if plan.parent else None,
            )
        self.every: list[AdapterTask] = list(made.values())
        self.trained: list[AdapterTask] = [t for t in self.every if not t.plan.source]
        self._by_plan = made

    @cached_property
    def _by_subject(self) -> dict[tuple[str, Profile | None], AdapterTask]:
        return {(t.plan.arm, t.plan.profile): t for t in self.every}

    def of_subject(self, subject: Subject) -> AdapterTask | None:
        """The adapter that a subject is made with; None where it has none."""
        return self._by_subject.get((subject.arm, subject.profile))

    def with_key(self, key: str) -> list[AdapterTask]:
        """The trained adapters of a content key."""
        return [t for t in self.trained if t.key == key]


def adapter_tasks(run: Run) -> AdapterTasks:
    """The adapters of a run, resolved once per process."""
    return run.kept.get(AdapterTasks, lambda: AdapterTasks(run))


def failure(run: Run, task: AdapterTask) -> str:
    """Why an adapter, or the one it starts from, could not be trained; empty where nothing is wrong."""
    text = run.store.read_plain(task.failed.path) if run.store.done(task.failed) else None
    return str(json.loads(text)["why"]) if text else ""


def fail(run: Run, task: AdapterTask, why: str, again: bool = False) -> None:
    """Record why an adapter is left out of the study; `again`: the next run tries it once more."""
    about = {"arm": task.plan.arm, "profile": task.plan.profile_name, "why": why, "again": again}
    run.store.put_text(task.failed, json.dumps(about))


def will_be_tried_again(run: Run, task: AdapterTask) -> bool:
    """Whether an adapter failed by an error that says nothing of the adapter, so that the next run tries it
    again."""
    text = run.store.read_plain(task.failed.path)
    return bool(text and json.loads(text).get("again"))


def forget_fault(run: Run, task: AdapterTask) -> None:
    """Treat an adapter that failed by such an error in an earlier run as not tried."""
    if run.store.done(task.failed) and will_be_tried_again(run, task):
        run.store.remove(task.failed)


def failed_adapters(run: Run) -> dict[AdapterTask, str]:
    """The adapters that could not be trained, or were refused, and why; their subjects are left out."""
    whys = {task: failure(run, task) for task in adapter_tasks(run).every}
    return {task: why for task, why in whys.items() if why}


def failed_names(run: Run) -> dict[str, str]:
    """The same by name, for people."""
    return {f"{task.label} · {task.plan.stage}": why for task, why in failed_adapters(run).items()}


def examples_of(run: Run, task: AdapterTask, split: str) -> pl.LazyFrame:
    """The stored examples of an adapter that this study trains: those of one split."""
    assert task.examples is not None
    return run.store.scan(task.examples).filter(pl.col("split") == split)


def take_up(run: Run, task: AdapterTask) -> None:
    """Copy an adapter made elsewhere into the run, so that the run has all that it needs."""
    if run.store.done(task.artefact):
        return
    source, _ = run.plan.own_adapter(task.plan.stage)

    def copy(folder: Path) -> dict[str, Any]:
        for name in ADAPTER_FILES:
            shutil.copyfile(source / name, folder / name)
        return {"source": task.plan.source, "left_out_too_long": 0}

    with run.recorded("adapters", task.artefact):
        run.store.put_folder(task.artefact, copy, under="adapters")


def adapter_folder(run: Run, subject: Subject) -> Path | None:
    """Where the adapter of a subject lies in the run; None where it has none. Raises `NotDone` where it is
    not made yet."""
    task = adapter_tasks(run).of_subject(subject)
    return run.store.locate(task.artefact) if task else None


def left_out(run: Run) -> dict[str, int]:
    """How many examples each adapter did not learn because they were too long; zeros are left out."""
    counts = {}
    for task in adapter_tasks(run).every:
        marker = run.store.marker(task.artefact)
        if marker and marker["left_out_too_long"]:
            counts[f"{task.label} · {task.plan.stage}"] = int(marker["left_out_too_long"])
    return counts


def curves_artefact(run: Run) -> Artefact:
    """adapters/curves.csv: the losses of every adapter that this study trains."""
    trained = adapter_tasks(run).trained
    inputs = [*(task.key for task in trained), *(failure(run, task) for task in trained)]
    return Artefact("adapters/curves.csv", content_key("curves", keys.VERSIONS["adapters"], {}, *inputs))


def write_curves(run: Run) -> None:
    """Write the loss curves from the adapters' markers."""
    artefact = curves_artefact(run)
    trained = adapter_tasks(run).trained
    if not trained or run.store.done(artefact):
        return
    rows = []
    for task in trained:
        marker = run.store.marker(task.artefact)
        if marker is None:
            continue
        plan = task.plan
        about = {"arm": plan.arm, "stage": plan.stage, "profile": plan.profile_name}
        about |= {"best_epoch": marker["best_epoch"]}
        rows += [{**about, "curve": "train", "steps": s, "loss": x} for s, x in marker["train_loss"]]
        valid = zip(marker["epoch_steps"], marker["valid_loss"], strict=False)
        rows += [{**about, "curve": "valid", "steps": s, "loss": x} for s, x in valid]
    run.store.put_table(artefact, pl.DataFrame(rows, schema=CURVES))


def loss_curves(run: Run) -> pl.DataFrame:
    """The stored loss curves of the adapters that this study trains."""
    artefact = curves_artefact(run)
    if not adapter_tasks(run).trained or not run.store.done(artefact):
        return pl.DataFrame(schema=CURVES)
    return pl.read_csv(run.store.locate(artefact), schema=CURVES)
