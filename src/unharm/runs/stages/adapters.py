"""The stage that makes adapters: stacks of them, one after another, on the frozen base."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from unharm.core.progress import say
from unharm.executors.chunks import Chunk, Fault, Meter
from unharm.runs.adapters import (
    AdapterTask,
    adapter_tasks,
    examples_of,
    fail,
    failed_names,
    failure,
    forget_fault,
    take_up,
    will_be_tried_again,
    write_curves,
)
from unharm.runs.context import Run
from unharm.runs.faults import record_fault
from unharm.runs.shards import forget_shards
from unharm.runs.stages.training_session import Session
from unharm.training.checkpoints import FOLDER, checkpointed_stacks
from unharm.training.stack_size import MAX_STACK


def make_adapters(run: Run) -> None:
    """adapters/<hash>/: a PEFT folder per adapter; stage 2 starts from stage 1.

    An adapter whose training had to stop leaves a file in failed/ instead; its subjects are left
    out of the study.
    """
    tasks = adapter_tasks(run)
    for task in tasks.every:
        if task.plan.source:
            take_up(run, task)
    for task in tasks.trained:
        forget_fault(run, task)
    counts = {t.key: _example_count(run, t) for t in tasks.trained}
    over = {t for t in tasks.trained if run.store.done(t.artefact) or failure(run, t)}
    pending = {t.key for t in tasks.trained if t not in over}
    total = sum(counts.values())
    done = total - sum(counts[key] for key in pending)
    with run.progress("adapters", total, "examples", done) as progress:
        for stage in _in_order(tasks.trained) if pending else []:
            mine = [t for t in tasks.trained if t.plan.stage == stage and t not in over]
            rest = list(dict.fromkeys(t.key for t in mine if not _without_parent(run, t)))
            size = run.workers.size("adapters", len(rest))
            chunks = _chunks(run, stage, rest, size)
            run.workers.carry_out(chunks, train_chunk, give_up_adapter, progress, size)
            run.store.refresh("adapters", "failed", FOLDER)
    forget_shards(run)
    write_curves(run)
    for name, why in failed_names(run).items():
        say(f"{name}: not trained, and left out of what follows ({why})")


def _chunks(run: Run, stage: str, rest: list[str], workers: int) -> list[Chunk]:
    """The stacks of a stage: those begun earlier as they are, then the rest in their order.

    A stack is the same on every executor, because the last bits of its weights depend on what is in it. On
    accelerators, whose bits differ anyway, the rest is dealt out evenly.
    """
    known = {task.key for task in adapter_tasks(run).trained}
    begun = [
        keys for keys in checkpointed_stacks(run.store) if set(keys) & set(rest) and set(keys) <= known
    ]
    rest = [key for key in rest if not any(key in keys for keys in begun)]
    wanted = run.study.training.stack
    if wanted != "auto":
        size = wanted
    elif run.workers.on_accelerators("adapters"):
        size = max(1, min(MAX_STACK["cuda"], math.ceil(len(rest) / workers)))
    else:
        size = MAX_STACK["cpu"]
    stacks = begun + [rest[first : first + size] for first in range(0, len(rest), size)]
    return [Chunk("adapters", stage, tuple((0, key) for key in stack)) for stack in stacks]


def train_chunk(run: Run, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Train the adapters of a chunk as one stack, or as several where memory is short."""
    if run.dry:
        return _pretend(run, chunk)
    tasks = adapter_tasks(run)
    session = run.kept.get(Session, lambda: Session(run, tasks))
    session.progress = meter
    over = [t for t in tasks.trained if run.store.done(t.artefact) or failure(run, t)]
    session.done = len(over)
    session.make([key for _, key in chunk.items], {t.key for t in over})
    session.trackers.flush()
    return {"adapters": len(chunk.items)}


def give_up_adapter(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Record that an adapter could not be trained this time."""
    alike = adapter_tasks(run).with_key(chunk.items[0][1])
    for task in alike:
        fail(run, task, fault.what, again=True)
    return record_fault(run, chunk.stage, f"{alike[0].label} · {alike[0].plan.stage}", fault)


def _pretend(run: Run, chunk: Chunk) -> dict[str, int]:
    """A folder for every adapter of a chunk, as training would leave it, without weights."""
    wanted = {key for _, key in chunk.items}
    for task in adapter_tasks(run).trained:
        if task.key not in wanted or run.store.done(task.artefact):
            continue

        def write(folder: Path, key: str = task.key, stage: str = task.plan.stage) -> dict[str, Any]:
            (folder / "adapter_config.json").write_text(json.dumps({"dry_run": key}))
            none: dict[str, Any] = {"train_loss": [], "valid_loss": [], "epoch_steps": [], "best_epoch": 0}
            return {"stage": stage, "examples": 0, "left_out_too_long": 0, **none}

        run.store.put_folder(task.artefact, write, under="adapters")
    return {"adapters": len(chunk.items)}


def _example_count(run: Run, task: AdapterTask) -> int:
    count: int = examples_of(run, task, "train").select(pl.len()).collect().item()
    return count * run.plan.recipe(task.plan).epochs


def _in_order(tasks: Iterable[AdapterTask]) -> list[str]:
    """The training stages, those that start from another one's adapters last."""
    tasks = list(tasks)
    starting = {t.plan.stage for t in tasks if t.parent}
    return sorted(dict.fromkeys(t.plan.stage for t in tasks), key=lambda stage: stage in starting)


def _without_parent(run: Run, task: AdapterTask) -> bool:
    """Whether the adapter that this one starts from has failed; then this one is recorded as failed too."""
    why = failure(run, task.parent) if task.parent else ""
    if why and task.parent:
        again = will_be_tried_again(run, task.parent)
        fail(run, task, f"stage {task.parent.plan.stage}: {why}", again)
    return bool(why)
