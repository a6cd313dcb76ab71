"""The stage that makes completions: one start of each engine for all subjects and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from unharm import keys, stopping
from unharm.disk import Parts
from unharm.engines.requests import PERMANENT, Engine, Request, Sampling, Task, failed
from unharm.errors import UserError
from unharm.executors.chunks import Chunk, Fault, cut
from unharm.progress import Progress, Tally, say
from unharm.prompting.compose import style_of
from unharm.records import Completion, schema_of
from unharm.training.adapters import adapter_folder, failed_artefact

if TYPE_CHECKING:
    from unharm.pipeline import Run

COMPLETIONS = schema_of(Completion)

TOGETHER = 8
"""Shards that one of several workers is given at a time, at most."""


def make_completions(run: Run) -> None:
    """completions/<subject>/<benchmark>/: what a killed run had made is kept and not made again.

    A subject whose adapter is refused is left out, as if it could not be trained. What a server failed
    to answer is recorded as failed, and asked again by the next run.
    """
    shards = run.shards
    pending = [s for s in shards if not _done(run, s)]
    total, left = sum(_size(run, s) for s in shards), sum(_size(run, s) for s in pending)
    if not pending:
        say(f"completions: {total:,} of {total:,} completions are already there")
        return
    with run.progress("completions", total, "completions", total - left) as progress:
        size = run.workers.size("completions", left)
        run.workers.carry_out("completions", _chunks(run, pending, size), progress, size)
    run.look_again()  # adapters may have been refused, and workers have written


def _chunks(run: Run, pending: list[keys.Shard], workers: int) -> list[Chunk]:
    """The shards that workers are given at a time. What servers complete is done here, where the keys
    are."""
    by_engine: dict[tuple[str, bool], list[keys.Shard]] = {}
    for shard in pending:
        by_engine.setdefault((_engine_name(run, shard), _served(run, shard)), []).append(shard)
    return [
        chunk
        for (name, served), mine in by_engine.items()
        for chunk in cut("completions", name, [run.piece(s) for s in mine], workers, TOGETHER, here=served)
    ]


def complete_chunk(run: Run, chunk: Chunk, tally: Tally | Progress) -> dict[str, int]:
    """Completes the shards of a chunk that are not done yet."""
    shards = [shard for piece in chunk.pieces if not _done(run, shard := run.shard(piece))]
    collect(run, _start(run, chunk.by), shards, tally)
    return {"shards": len(shards)}


def give_up_shard(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Records what a shard has no completions for, and gives its name."""
    shard = run.shard(chunk.pieces[0])
    reason = f"task failed: {fault.what.partition(' ')[0]}"
    _, state = _task(run, shard, Tally())
    for request in state.wanted:
        state.have.setdefault(request.completion_id, failed(request, reason))
    _finish(run, state)
    return shard.completions.path


def _size(run: Run, shard: keys.Shard) -> int:
    return len(shard.prompts) * run.study.benchmarks.chosen()[shard.benchmark].samples


def _done(run: Run, shard: keys.Shard) -> bool:
    marker = run.store.marker(shard.completions)
    return marker is not None and not marker.get("unanswered")


def _served(run: Run, shard: keys.Shard) -> bool:
    return bool(run.study.server_of(shard.subject.arm)) and run.dry is None


def _engine_name(run: Run, shard: keys.Shard) -> str:
    return run.study.server_field(shard.subject.arm) or run.study.engine.name


def _start(run: Run, name: str) -> Engine:
    """The engine of that name, or of the server that the field of that name describes; started once."""
    engine: Engine = run.kept(f"engine {name}", lambda: _started(run, name))
    return engine


def _started(run: Run, name: str) -> Engine:
    study = run.study
    if run.dry:
        from unharm.dry_run import DryEngine

        return DryEngine(run.dry)
    if name in study.servers:
        from unharm.engines.openai import OpenAIEngine

        return OpenAIEngine(study.servers[name], study.base, name)
    if name == "vllm":
        from unharm.engines.vllm import VllmEngine

        return VllmEngine(run.base.path, study)
    from unharm.engines.hf import HfEngine

    batch = None if study.engine.batch == "auto" else study.engine.batch
    return HfEngine(run.model, run.tokenizer, study.prompting.format, batch)


@dataclass
class _Going:
    """A shard on its way: what is wanted, and what there is."""

    shard: keys.Shard
    wanted: list[Request]
    have: dict[str, Completion]
    parts: Parts
    done: Callable[[], None]


def collect(run: Run, engine: Engine, shards: list[keys.Shard], progress: Tally | Progress) -> None:
    """Has an engine complete the shards; stores every completion as it comes, every shard when whole."""
    going: dict[str, _Going] = {}
    refused: dict[str, str] = {}
    served = any(run.study.server_of(s.subject.arm) for s in shards)

    def tasks() -> Iterator[Task]:
        for shard in shards:
            if stopping.asked():
                return
            task, state = _task(run, shard, progress)
            if str(task.adapter) in refused:
                continue
            going[task.name] = state
            if task.requests:
                yield task
            else:
                _finish(run, going.pop(task.name))

    def refuse(task: Task, error: UserError) -> None:
        adapter = run.plan.adapter_of(going.pop(task.name).shard.subject)
        if adapter is None or adapter.source:
            raise error
        why = error.problems[0].what
        refused[str(task.adapter)] = why
        run.store.put_text(failed_artefact(run, adapter), json.dumps({"why": why}))
        say(f"{adapter.label}: refused, and left out of what follows ({why})")

    for task, completion in engine.complete(tasks(), refuse):
        state = going[task.name]
        state.have[completion.completion_id] = completion
        state.parts.add(vars(completion), synced=served)
        progress.tick(1)
        if len(state.have) == len(state.wanted):
            _finish(run, going.pop(task.name))


def _task(run: Run, shard: keys.Shard, progress: Tally | Progress) -> tuple[Task, _Going]:
    """The requests of a shard that are still to be answered."""
    chat = style_of(run.study, shard.subject.arm) == "chat"
    wanted = keys.requests(run.plan, shard, run.tokenizer if chat else None)
    parts = run.store.parts(shard.completions)
    have = {c.completion_id: c for c in _before(run, shard, parts)}
    have = {r.completion_id: have[r.completion_id] for r in wanted if r.completion_id in have}
    progress.skip(len(have))
    done = run.begun("completions", shard.completions, kept=len(have), wanted=len(wanted))
    state = _Going(shard, wanted, have, parts, done)
    spec = run.study.benchmarks.chosen()[shard.benchmark]
    sampling = Sampling(spec.max_tokens, spec.temperature, spec.top_p, tuple(spec.stop))
    missing = tuple(r for r in wanted if r.completion_id not in have)
    return Task(shard.completions.path, missing, sampling, adapter_folder(run, shard.subject)), state


def _before(run: Run, shard: keys.Shard, parts: Parts) -> Iterator[Completion]:
    """What earlier runs have left of a shard, but for what a server failed to answer."""
    rows = parts.rows()
    if run.store.done(shard.completions):
        rows += run.store.scan(shard.completions).collect().to_dicts()
    for row in rows:
        if set(row) == set(COMPLETIONS):
            completion = Completion(**row | {"options": tuple(row["options"])})
            if completion.status == "completed" or completion.reason in PERMANENT:
                yield completion


def _finish(run: Run, state: _Going) -> None:
    """Writes the table of a shard; scores of an earlier one go first."""
    shard = state.shard
    rows = [state.have[r.completion_id] for r in state.wanted]
    unanswered = sum(c.status == "failed" and c.reason not in PERMANENT for c in rows)
    if run.store.done(shard.completions):
        for scores in shard.scored.values():
            run.store.remove(scores)
    columns = {name: [getattr(c, name) for c in rows] for name in COMPLETIONS}
    frame = pl.DataFrame(columns, schema=COMPLETIONS)
    run.store.put_table(shard.completions, frame, unanswered=unanswered)
    state.parts.drop()
    state.done()
