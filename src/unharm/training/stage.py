"""The stage that makes adapters: stacks of them, one after another, on the frozen base."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from unharm import keys
from unharm.executors.chunks import Chunk, Fault
from unharm.plan import AdapterPlan
from unharm.progress import Progress, Tally
from unharm.store import Artefact
from unharm.training.adapters import (
    examples_of,
    fail,
    failure,
    forget_fault,
    take_up,
    will_be_tried_again,
    write_curves,
)
from unharm.training.checkpoints import FOLDER, stacks_begun
from unharm.training.memory import MOST
from unharm.training.session import Session

if TYPE_CHECKING:
    from unharm.pipeline import Run


def make_adapters(run: Run) -> None:
    """adapters/<hash>/: a PEFT folder per adapter; stage 2 starts from stage 1.

    An adapter whose training had to stop leaves a file in failed/ instead; its subjects are left
    out of the study.
    """
    for adapter in run.plan.adapters:
        if adapter.source:
            take_up(run, adapter)
    tasks = tasks_of(run)
    for adapter in tasks:
        forget_fault(run, adapter)
    counts = {t.key: _example_count(run, a) for a, t in tasks.items()}
    over = {a for a, t in tasks.items() if run.store.done(t) or failure(run, a)}
    pending = {t.key for a, t in tasks.items() if a not in over}
    total = sum(counts.values())
    there = total - sum(counts[key] for key in pending)
    with run.progress("adapters", total, "examples", there) as progress:
        for stage in _in_order(list(tasks)) if pending else []:
            mine = [a for a in tasks if a.stage == stage and a not in over]
            rest = list(dict.fromkeys(tasks[a].key for a in mine if not _without_parent(run, a)))
            size = run.workers.size("adapters", len(rest))
            run.workers.carry_out("adapters", _chunks(run, stage, rest, size), progress, size)
            run.store.refresh("adapters", "failed", FOLDER)
    run.look_again()
    write_curves(run)


def tasks_of(run: Run) -> dict[AdapterPlan, Artefact]:
    """The adapters that the study trains, each with what comes of it."""
    return {a: keys.adapter_artefact(run.plan, a, run.base.key) for a in run.plan.trained}


def _chunks(run: Run, stage: str, rest: list[str], workers: int) -> list[Chunk]:
    """The stacks of a stage: those begun earlier as they are, then the rest in their order.

    A stack is the same on every executor, because the last bits of its weights depend on what is in it. On
    accelerators, whose bits differ anyway, the rest is dealt out evenly.
    """
    known = {task.key for task in tasks_of(run).values()}
    begun = [keys for keys in stacks_begun(run.store) if set(keys) & set(rest) and set(keys) <= known]
    rest = [key for key in rest if not any(key in keys for keys in begun)]
    wanted = run.study.training.stack
    if wanted != "auto":
        size = wanted
    elif run.workers.on_accelerators("adapters"):
        size = max(1, min(MOST["cuda"], math.ceil(len(rest) / workers)))
    else:
        size = MOST["cpu"]
    stacks = begun + [rest[first : first + size] for first in range(0, len(rest), size)]
    return [Chunk("adapters", stage, tuple((0, key) for key in stack)) for stack in stacks]


def train_chunk(run: Run, chunk: Chunk, tally: Tally | Progress) -> dict[str, int]:
    """Trains the adapters of a chunk as one stack, or as several where memory is short."""
    if run.dry:
        from unharm.dry_run import dry_adapters

        return dry_adapters(run, chunk, tally)
    session: Session = run.kept("training", lambda: Session(run, tasks_of(run)))
    session.progress = tally
    over = {a for a, t in session.tasks.items() if run.store.done(t) or failure(run, a)}
    session.done = len(over)
    session.make([key for _, key in chunk.pieces], {session.tasks[a].key for a in over})
    session.trackers.flush()
    return {"adapters": len(chunk.pieces)}


def give_up_adapter(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Records that an adapter could not be trained this time, and gives its name."""
    alike = [a for a, task in tasks_of(run).items() if task.key == chunk.pieces[0][1]]
    for adapter in alike:
        fail(run, adapter, fault.what, again=True)
    return f"{alike[0].label} · {alike[0].stage}"


def _example_count(run: Run, adapter: AdapterPlan) -> int:
    count: int = examples_of(run, adapter, "train").select(pl.len()).collect().item()
    return count * run.plan.recipe(adapter).epochs


def _in_order(adapters: list[AdapterPlan]) -> list[str]:
    """The stages, those that start from another one's adapters last."""
    starting = {a.stage for a in adapters if a.parent}
    return sorted(dict.fromkeys(a.stage for a in adapters), key=lambda stage: stage in starting)


def _without_parent(run: Run, adapter: AdapterPlan) -> bool:
    """Whether the adapter that this one starts from has failed; then it fails with it."""
    why = failure(run, adapter.parent) if adapter.parent else ""
    if why and adapter.parent:
        again = will_be_tried_again(run, adapter.parent)
        fail(run, adapter, f"stage {adapter.parent.stage}: {why}", again)
    return bool(why)
