"""The adapters of a run: their inputs, their place in the run folder, and their failures."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import polars as pl

from unharm.core.arms import steering
from unharm.core.hashing import content_key
from unharm.core.models.peft_folder import ADAPTER_FILES
from unharm.core.records import Example, Profile, Split, Subject
from unharm.corpus.preferences import preference_examples, preference_pairs
from unharm.corpus.vim import ag_example, qa_example
from unharm.runs import keys
from unharm.runs.adapter_plan import AdapterPlan
from unharm.runs.context import Run
from unharm.runs.steering import shift_folder
from unharm.store.store import Artefact
from unharm.store.tables import read_csv

CURVES_VERSION = 3
CURVES: dict[str, Any] = {
    "arm": pl.String,
    "stage": pl.String,
    "profile": pl.String,
    "seed": pl.Int64,
    "best_epoch": pl.Int64,
    "curve": pl.String,
    "steps": pl.Int64,
    "loss": pl.Float64,
}
"""Columns of adapters/curves.csv. `loss` is the mean in nats per label token: since the previous row for
`train`, after an epoch for `valid`."""


@dataclass(frozen=True)
class AdapterTask:
    """An adapter of a run with its artefacts.

    Attributes:
        plan: Its arm, stage and profile.
        artefact: Its folder and key in the run.
        failed: The file that records a failure.
        examples: Its training examples; None for an external adapter and for a dose.
        parent: The adapter that its training starts from.
        full: The adapter that it is a dose of.
    """

    plan: AdapterPlan
    artefact: Artefact
    failed: Artefact
    examples: Artefact | None
    parent: AdapterTask | None
    full: AdapterTask | None = None

    @property
    def key(self) -> str:
        """Its content key. Profiles with the same importances share it, whatever their names."""
        return self.artefact.key

    @property
    def label(self) -> str:
        """Arm, profile and seed, for messages."""
        return self.plan.label


class AdapterTasks:
    """All adapters of a run, each after its parent."""

    def __init__(self, run: Run):
        by_plan: dict[AdapterPlan, AdapterTask] = {}
        for plan in run.plan.adapters:
            artefact = keys.adapter_artefact(run.plan, plan, run.base.key)
            by_plan[plan] = AdapterTask(
                plan,
                artefact,
                Artefact(f"failed/{artefact.path}.json", artefact.key),
                None if plan.source or plan.full else keys.examples_artefact(run.plan, plan),
                by_plan[plan.parent] if plan.parent else None,
                by_plan[plan.full] if plan.full else None,
            )
        self.every: list[AdapterTask] = list(by_plan.values())
        self.trained: list[AdapterTask] = [t for t in self.every if not t.plan.source and not t.full]
        self.doses: list[AdapterTask] = [t for t in self.every if t.full]

    @cached_property
    def _by_subject(self) -> dict[tuple[str, Profile | None, int | None], AdapterTask]:
        return {(t.plan.arm, t.plan.profile, t.plan.seed): t for t in self.every}

    def of_subject(self, subject: Subject) -> AdapterTask | None:
        """Return the adapter of a subject, or None."""
        return self._by_subject.get((subject.arm, subject.profile, subject.seed))

    def kept_epochs(self, task: AdapterTask) -> dict[int, AdapterTask]:
        """Return the epochs of a trained adapter that are kept as doses, each with the dose."""
        doses = self._by_full.get(task, [])
        return {t.plan.dose.epoch: t for t in doses if t.plan.dose and t.plan.dose.epoch is not None}

    @cached_property
    def _by_full(self) -> dict[AdapterTask, list[AdapterTask]]:
        by_full: dict[AdapterTask, list[AdapterTask]] = {}
        for dose in self.doses:
            if dose.full:
                by_full.setdefault(dose.full, []).append(dose)
        return by_full

    def with_key(self, key: str) -> list[AdapterTask]:
        """Return the trained adapters with a content key."""
        return [t for t in self.trained if t.key == key]


def adapter_tasks(run: Run) -> AdapterTasks:
    """Return the adapters of a run, created once per process."""
    return run.cache.get(AdapterTasks, lambda: AdapterTasks(run))


def failure_reason(run: Run, task: AdapterTask) -> str:
    """Return why an adapter or its parent failed, or an empty string."""
    text = run.store.read_plain(task.failed.path) if run.store.done(task.failed) else None
    return str(json.loads(text)["why"]) if text else ""


def record_failure(run: Run, task: AdapterTask, reason: str, temporary: bool = False) -> None:
    """Record why an adapter is left out of the study. The next run retries a temporary failure."""
    record = {"arm": task.plan.arm, "profile": task.plan.profile_name, "why": reason, "again": temporary}
    record |= {} if task.plan.seed is None else {"seed": task.plan.seed}
    run.store.put_text(task.failed, json.dumps(record))


def is_over(run: Run, task: AdapterTask) -> bool:
    """Return whether a trained adapter and the epochs of it that are kept are stored, or have failed."""
    tasks = [task, *adapter_tasks(run).kept_epochs(task).values()]
    return all(run.store.done(t.artefact) or failure_reason(run, t) for t in tasks)


def failed_temporarily(run: Run, task: AdapterTask) -> bool:
    """Return whether an adapter failed by an error that is not its own, so that the next run retries it."""
    text = run.store.read_plain(task.failed.path)
    return bool(text and json.loads(text).get("again"))


def clear_temporary_failure(run: Run, task: AdapterTask) -> None:
    """Delete the record of a temporary failure, so that the adapter is trained again."""
    if run.store.done(task.failed) and failed_temporarily(run, task):
        run.store.remove(task.failed)


def failed_adapters(run: Run) -> dict[AdapterTask, str]:
    """Return the adapters that failed or were refused, with the reason. Their subjects are left out."""
    reasons = {task: failure_reason(run, task) for task in adapter_tasks(run).every}
    return {task: reason for task, reason in reasons.items() if reason}


def failed_names(run: Run) -> dict[str, str]:
    """Return the names of failed adapters with the reason."""
    return {f"{task.label} · {task.plan.stage}": reason for task, reason in failed_adapters(run).items()}


def examples_of(run: Run, task: AdapterTask, split: str) -> list[Example]:
    """Read the stored examples of one split of an adapter that this study trains, and word them."""
    rows = _example_rows(run, task, split)
    profile, plan = task.plan.profile, run.plan
    if profile is None:
        return [Example(**row) for row in rows.collect().to_dicts()]
    label = keys.label_column(profile.name)
    part: Split = _split(split)
    if task.plan.stage == "dpo":
        says = dict(rows.select("argument", label).collect().rows())
        arguments = [plan.argument(a) for a in says]
        splits: dict[str, Split] = dict.fromkeys(says, part)
        pairs = preference_pairs(arguments, list(says.values()), splits, plan.study.seed)
        return preference_examples(pairs, splits, plan.pack)
    if task.plan.stage == "ag":
        labels = rows.select("argument", label).collect().rows()
        return [ag_example(plan.argument(a), part, would, plan.pack) for a, would in labels]
    ratings = rows.select("argument", "value", label).collect().rows()
    return [qa_example(plan.argument(a), part, v, rating, plan.pack) for a, v, rating in ratings]


def example_count(run: Run, task: AdapterTask, split: str) -> int:
    """Return how many stored examples of a split an adapter has: texts, where they are pairs."""
    if task.plan.stage == "dpo":
        return len(examples_of(run, task, split))
    count: int = _example_rows(run, task, split).select(pl.len()).collect().item()
    return count


def _example_rows(run: Run, task: AdapterTask, split: str) -> pl.LazyFrame:
    assert task.examples is not None
    return run.store.scan(task.examples).filter(pl.col("split") == split)


def _split(name: str) -> Split:
    """Return a split by its name."""
    return next(split for split in get_args(Split) if split == name)


def import_adapter(run: Run, task: AdapterTask) -> None:
    """Copy an external adapter into the run folder, so that the run is complete in itself."""
    if run.store.done(task.artefact):
        return
    source, _ = run.plan.external_adapter(task.plan.stage)

    def copy(folder: Path) -> dict[str, Any]:
        for name in ADAPTER_FILES:
            shutil.copyfile(source / name, folder / name)
        return {"source": task.plan.source, "left_out_too_long": 0}

    with run.journaled("adapters", task.artefact):
        run.store.put_folder(task.artefact, copy, under="adapters")


def adapter_folder(run: Run, subject: Subject) -> Path | None:
    """Return the folder of a subject's adapter or of its shift by steering, or None if it has neither.

    Raises:
        NotDone: It is not made yet.
    """
    if steering(subject.arm) and subject.profile is not None:
        return shift_folder(run, subject.arm, subject.profile)
    task = adapter_tasks(run).of_subject(subject)
    return run.store.locate(task.artefact) if task else None


def too_long_counts(run: Run) -> dict[str, int]:
    """Return how many examples were too long, for each adapter with at least one."""
    counts = {}
    for task in adapter_tasks(run).every:
        if task.full:
            continue
        marker = run.store.marker(task.artefact)
        if marker and marker["left_out_too_long"]:
            counts[f"{task.label} · {task.plan.stage}"] = int(marker["left_out_too_long"])
    return counts


def curves_artefact(run: Run) -> Artefact:
    """Return the artefact adapters/curves.csv: the losses of every trained adapter."""
    trained = adapter_tasks(run).trained
    inputs = [*(task.key for task in trained), *(failure_reason(run, task) for task in trained)]
    return Artefact("adapters/curves.csv", content_key("curves", CURVES_VERSION, {}, *inputs))


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
        columns = {
            "arm": plan.arm,
            "stage": plan.stage,
            "profile": plan.profile_name,
            "seed": plan.seed,
            "best_epoch": marker["best_epoch"],
        }
        rows += [{**columns, "curve": "train", "steps": s, "loss": x} for s, x in marker["train_loss"]]
        valid = zip(marker["epoch_steps"], marker["valid_loss"], strict=False)
        rows += [{**columns, "curve": "valid", "steps": s, "loss": x} for s, x in valid]
    run.store.put_table(artefact, pl.DataFrame(rows, schema=CURVES))


def loss_curves(run: Run) -> pl.DataFrame:
    """Read the stored loss curves; an empty table if there are none."""
    artefact = curves_artefact(run)
    if not adapter_tasks(run).trained or not run.store.done(artefact):
        return pl.DataFrame(schema=CURVES)
    return read_csv(run.store.locate(artefact), CURVES)
