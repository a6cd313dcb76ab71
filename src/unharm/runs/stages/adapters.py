"""The stage that trains adapters on the frozen base, one stack after another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unharm.core.arms import guard_of
from unharm.core.progress import say
from unharm.executors.chunks import Chunk, Fault, Meter
from unharm.runs.adapters import (
    AdapterTask,
    adapter_tasks,
    clear_temporary_failure,
    example_count,
    failed_names,
    failed_temporarily,
    failure_reason,
    import_adapter,
    is_over,
    loss_curves,
    record_failure,
    write_curves,
)
from unharm.runs.context import Run
from unharm.runs.doses import make_doses
from unharm.runs.faults import record_fault
from unharm.runs.matched_loss import unmatched, without_match
from unharm.runs.shards import forget_shards
from unharm.runs.stages.training_session import Session
from unharm.training.checkpoints import FOLDER, checkpointed_stacks
from unharm.training.guards import added_texts
from unharm.training.loss_fall import hardly_trained
from unharm.training.stack_size import MAX_STACK

PER_PROCESS = 16
"""This many adapters make one more local process worth its start time."""


def make_adapters(run: Run) -> None:
    """Write a PEFT folder adapters/<hash>/ per adapter. Stage 2 starts from stage 1.

    An adapter whose training fails gets a file in failed/ instead. Its subjects are left out of the study.
    """
    tasks = adapter_tasks(run)
    for task in tasks.every:
        if task.plan.source:
            import_adapter(run, task)
    for task in tasks.trained:
        clear_temporary_failure(run, task)
    counts = {t.key: _example_count(run, t) for t in tasks.trained}
    for task in tasks.doses:
        clear_temporary_failure(run, task)
    over = {t for t in tasks.trained if is_over(run, t)}
    pending = {t.key for t in tasks.trained if t not in over}
    total = sum(counts.values())
    done = total - sum(counts[key] for key in pending)
    with run.progress("adapters", total, "examples", done) as progress:
        for stage in _in_order(run, tasks.trained) if pending else []:
            open_tasks = [t for t in tasks.trained if t.plan.stage == stage and t not in over]
            rest = list(dict.fromkeys(t.key for t in open_tasks if not _without_parent(run, t)))
            size = run.workers.size("adapters", len(rest), PER_PROCESS)
            chunks = _chunks(run, stage, rest, size)
            run.workers.run_chunks(chunks, train_chunk, give_up_adapter, progress, size)
            run.store.refresh("adapters", "failed", FOLDER)
    make_doses(run)
    forget_shards(run)
    write_curves(run)
    for arm in hardly_trained(loss_curves(run)):
        say(arm.sentence)
    for sentence in unmatched(run) if run.dry is None else ():
        say(sentence)
    for name, reason in failed_names(run).items():
        say(f"{name}: not trained, and left out of the following stages ({reason})")


def _chunks(run: Run, stage: str, rest: list[str], workers: int) -> list[Chunk]:
    """Return one chunk per stack: the stacks of earlier runs unchanged, then new stacks in order.

    On a CPU, stacks are the same on every executor, because the last bits of an adapter's weights depend on
    the other adapters in its stack. On accelerators the bits differ anyway, so the adapters are distributed
    evenly among the workers.
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
    restored = _earlier_stacks(run, stage, rest)
    rest = [key for key in rest if not any(key in keys for keys in restored)]
    stacks = begun + restored
    for group in _by_kind(run, rest):
        stacks += [group[first : first + size] for first in range(0, len(group), size)]
    return [Chunk("adapters", stage, tuple((0, key) for key in stack)) for stack in stacks]


def _by_kind(run: Run, rest: list[str]) -> list[list[str]]:
    """Group the keys of adapters by training seed and guard.

    A stack holds one guard, whose safe texts all share, and one seed: its adapters see the same examples in
    the same order with the same dropout masks, so that their trees fit together and a mask is drawn once.
    """
    kind_of = {
        t.key: (run.plan.training_seed(t.plan), guard_of(t.plan.arm)) for t in adapter_tasks(run).trained
    }
    groups: dict[tuple[int, str], list[str]] = {}
    for key in rest:
        groups.setdefault(kind_of[key], []).append(key)
    return list(groups.values())


def _earlier_stacks(run: Run, stage: str, rest: list[str]) -> list[list[str]]:
    """Return the stacks in which adapters that are to be trained again were trained before.

    Trained alone, an adapter that was lost would have other last bits than in its stack, and everything
    that depends on it would be made anew. The markers of the others name the stack.
    """
    if run.workers.on_accelerators("adapters"):
        return []
    tasks = [t for t in adapter_tasks(run).trained if t.plan.stage == stage]
    known = {t.key for t in tasks}
    stacks: dict[tuple[str, ...], None] = {}
    for task in tasks:
        marker = run.store.marker(task.artefact) or {}
        stack = tuple(str(key) for key in marker.get("stack", ()))
        if not set(stack) & set(rest):
            continue
        if set(stack) <= known:
            stacks[stack] = None
        else:
            say(
                f"{task.label}: the adapters of its stack are not all in this study any more, so those "
                "trained again may differ in their last bits, and completions are made anew"
            )
    return [list(stack) for stack in stacks]


def train_chunk(run: Run, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Train the adapters of a chunk as one stack, or as several if memory is short."""
    if run.dry:
        return _pretend(run, chunk)
    tasks = adapter_tasks(run)
    session = run.cache.get(Session, lambda: Session(run, tasks))
    session.progress = meter
    over = [t for t in tasks.trained if is_over(run, t)]
    session.done = len(over)
    session.make([key for _, key in chunk.items], {t.key for t in over})
    session.trackers.flush()
    return {"adapters": len(chunk.items)}


def give_up_adapter(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Record a temporary failure of an adapter."""
    same_key = adapter_tasks(run).with_key(chunk.items[0][1])
    for task in same_key:
        record_failure(run, task, fault.summary, temporary=True)
    return record_fault(run, chunk.stage, f"{same_key[0].label} · {same_key[0].plan.stage}", fault)


def _pretend(run: Run, chunk: Chunk) -> dict[str, int]:
    """Write the folder of every adapter of a chunk without weights, for a dry run."""
    wanted = {key for _, key in chunk.items}
    tasks = adapter_tasks(run)
    trained = [t for t in tasks.trained if t.key in wanted]
    for task in [*trained, *(dose for t in trained for dose in tasks.kept_epochs(t).values())]:
        if run.store.done(task.artefact):
            continue

        def write(folder: Path, key: str = task.key, stage: str = task.plan.stage) -> dict[str, Any]:
            (folder / "adapter_config.json").write_text(json.dumps({"dry_run": key}))
            empty: dict[str, Any] = {"train_loss": [], "valid_loss": [], "epoch_steps": [], "best_epoch": 0}
            return {"stage": stage, "examples": 0, "left_out_too_long": 0, **empty}

        run.store.put_folder(task.artefact, write, under="adapters")
    return {"adapters": len(chunk.items)}


def _example_count(run: Run, task: AdapterTask) -> int:
    """Return how many examples an adapter learns from, over all epochs."""
    count = example_count(run, task, "train")
    if guard_of(task.plan.arm) == "interleave":
        count += added_texts(count, run.study.training.guard.share)
    return count * run.plan.recipe(task.plan).epochs


def _in_order(run: Run, tasks: Iterable[AdapterTask]) -> list[str]:
    """Return the training stages in order: after those that start from other adapters come those that are
    matched to them."""
    ranks: dict[str, int] = {}
    for task in tasks:
        rank = 2 if run.plan.matches_loss(task.plan) else int(task.parent is not None)
        ranks[task.plan.stage] = max(rank, ranks.get(task.plan.stage, 0))
    return sorted(ranks, key=lambda stage: ranks[stage])


def _without_parent(run: Run, task: AdapterTask) -> bool:
    """Return whether the parent of an adapter failed, or all that it is matched to, and record that as a
    failure of the adapter."""
    if unable := without_match(run, task):
        record_failure(run, task, unable, temporary=True)
        return True
    reason = failure_reason(run, task.parent) if task.parent else ""
    if reason and task.parent:
        temporary = failed_temporarily(run, task.parent)
        record_failure(run, task, f"stage {task.parent.plan.stage}: {reason}", temporary)
    return bool(reason)
