"""The stage that makes completions: one start of each engine for all subjects and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.files.disk import Parts
from unharm.core.models.peft_folder import configuration, find_adapter
from unharm.core.progress import Tally, say
from unharm.core.records import Completion, schema_of
from unharm.engines.requests import PERMANENT, CompletionEngine, Request, Sampling, Task, failed
from unharm.executors.chunks import Chunk, Fault, Meter, cut
from unharm.runs import keys
from unharm.runs.adapters import adapter_folder, adapter_tasks
from unharm.runs.context import Run
from unharm.runs.faults import record_fault
from unharm.runs.keys import Shard
from unharm.runs.shards import all_shards, forget_shards, item_of, shard_of

COMPLETIONS = schema_of(Completion)

TOGETHER = 8
"""Shards that one of several workers is given at a time, at most."""


def make_completions(run: Run) -> None:
    """completions/<subject>/<benchmark>/: what a killed run had made is kept and not made again.

    A subject whose adapter is refused is left out, as if it could not be trained. What a server failed
    to answer is recorded as failed, and asked again by the next run.
    """
    shards = all_shards(run)
    pending = [s for s in shards if not _done(run, s)]
    total, left = sum(_size(run, s) for s in shards), sum(_size(run, s) for s in pending)
    if not pending:
        say(f"completions: {total:,} of {total:,} completions are already there")
        return
    with run.progress("completions", total, "completions", total - left) as progress:
        size = run.workers.size("completions", left)
        chunks = _chunks(run, pending, size)
        run.workers.carry_out(chunks, complete_chunk, give_up_shard, progress, size)
    forget_shards(run)  # adapters may have been refused, and workers have written


def _chunks(run: Run, pending: list[Shard], workers: int) -> list[Chunk]:
    """The shards that workers are given at a time. What servers complete is done here, where the keys
    are."""
    by_engine: dict[tuple[str, bool], list[Shard]] = {}
    for shard in pending:
        by_engine.setdefault((_engine_name(run, shard), _served(run, shard)), []).append(shard)
    return [
        chunk
        for (name, served), mine in by_engine.items()
        for chunk in cut(
            "completions", name, [item_of(run, s) for s in mine], workers, TOGETHER, here=served
        )
    ]


def complete_chunk(run: Run, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Completes the shards of a chunk that are not done yet."""
    shards = [shard for item in chunk.items if not _done(run, shard := shard_of(run, item))]
    collect(run, run.kept.get(Engines, lambda: Engines(run))[chunk.by], shards, meter)
    return {"shards": len(shards)}


def give_up_shard(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Record the completions that a shard lacks as failed."""
    shard = shard_of(run, chunk.items[0])
    reason = f"task failed: {fault.what.partition(' ')[0]}"
    _, state = _task(run, shard, Tally())
    for request in state.wanted:
        state.have.setdefault(request.completion_id, failed(request, reason))
    _finish(run, state)
    return record_fault(run, chunk.stage, shard.completions.path, fault)


def _size(run: Run, shard: Shard) -> int:
    return len(shard.prompts) * run.study.benchmarks.chosen()[shard.benchmark].samples


def _done(run: Run, shard: Shard) -> bool:
    marker = run.store.marker(shard.completions)
    return marker is not None and not marker.get("unanswered")


def _served(run: Run, shard: Shard) -> bool:
    return bool(run.study.server_of(shard.subject.arm)) and run.dry is None


def _engine_name(run: Run, shard: Shard) -> str:
    return run.study.server_field(shard.subject.arm) or run.study.engine.name


class Engines:
    """The engines of a process by name, each started when it is first asked for."""

    def __init__(self, run: Run):
        self._run = run
        self._started: dict[str, CompletionEngine] = {}

    def __getitem__(self, name: str) -> CompletionEngine:
        """The engine of that name, or of the server that the field of that name describes."""
        if name not in self._started:
            self._started[name] = _start(self._run, name)
        return self._started[name]

    def close(self) -> None:
        """Let go of all engines, and end those that hold processes of their own."""
        for engine in self._started.values():
            close = getattr(engine, "close", None)
            if close is not None:
                close()
        self._started.clear()


def _start(run: Run, name: str) -> CompletionEngine:
    study = run.study
    if run.dry:
        from unharm.engines.fake import DryEngine

        return DryEngine(run.dry)
    if name in study.servers:
        from unharm.engines.openai import OpenAIEngine

        return OpenAIEngine(study.servers[name], study.base, name)
    chat = study.prompting.format == "chat"
    if name == "vllm":
        from unharm.engines.vllm import VllmEngine

        return VllmEngine(run.base.path, study.engine, chat, _largest_rank(run), study.seed)
    from unharm.engines.hf import HfEngine

    batch = None if study.engine.batch == "auto" else study.engine.batch
    return HfEngine(run.models.model, run.models.tokenizer, study.prompting.format, batch)


def _largest_rank(run: Run) -> int:
    """The largest rank of an adapter of the study, its own and those made elsewhere."""
    sources = run.study.adapters.items()
    ranks = [int(configuration(find_adapter(name, source)).get("r", 8)) for name, source in sources]
    return max(run.study.training.lora.r, *ranks, 1)


@dataclass
class _Going:
    """A shard on its way: what is wanted, and what there is."""

    shard: Shard
    wanted: list[Request]
    have: dict[str, Completion]
    parts: Parts
    done: Callable[[], None]


def collect(run: Run, engine: CompletionEngine, shards: list[Shard], progress: Meter) -> None:
    """Has an engine complete the shards; stores every completion as it comes, every shard when whole."""
    going: dict[str, _Going] = {}
    refused: dict[str, str] = {}
    served = any(run.study.server_of(s.subject.arm) for s in shards)

    def tasks() -> Iterator[Task]:
        for shard in shards:
            if interrupt.asked():
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
        adapter = adapter_tasks(run).of_subject(going.pop(task.name).shard.subject)
        if adapter is None or adapter.plan.source:
            raise error
        why = error.problems[0].what
        refused[str(task.adapter)] = why
        run.store.put_text(adapter.failed, json.dumps({"why": why}))
        say(f"{adapter.label}: refused, and left out of what follows ({why})")

    for task, completion in engine.complete(tasks(), refuse):
        state = going[task.name]
        state.have[completion.completion_id] = completion
        state.parts.add(vars(completion), synced=served)
        progress.tick(1)
        if len(state.have) == len(state.wanted):
            _finish(run, going.pop(task.name))


def _task(run: Run, shard: Shard, progress: Meter) -> tuple[Task, _Going]:
    """The requests of a shard that are still to be answered."""
    chat = run.study.style_of(shard.subject.arm) == "chat"
    wanted = keys.requests(run.plan, shard, run.models.tokenizer if chat else None)
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


def _before(run: Run, shard: Shard, parts: Parts) -> Iterator[Completion]:
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
