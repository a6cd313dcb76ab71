"""The stage that makes completions. Each engine is started once for all subjects and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.files.disk import Parts
from unharm.core.progress import Tally, say
from unharm.core.records import Completion, schema_of
from unharm.engines.requests import PERMANENT, CompletionEngine, Request, Sampling, Task, failed
from unharm.engines.thoughts import without_thought
from unharm.executors.chunks import Chunk, Fault, Meter, make_chunks
from unharm.prompting.compose import turn_end
from unharm.runs import keys
from unharm.runs.adapters import adapter_folder, adapter_tasks
from unharm.runs.context import Run
from unharm.runs.faults import record_fault
from unharm.runs.keys import Shard
from unharm.runs.requirements import adapter_shape, longest_request
from unharm.runs.shards import all_shards, forget_shards, item_of, shard_of
from unharm.runs.stages.training_session import Session

PER_PROCESS = 20_000
"""This many completions make one more local process worth its start time."""

COMPLETIONS = {name: kind for name, kind in schema_of(Completion).items() if name != "thought"}
THOUGHTS = {"completion_id": pl.String, "thought": pl.String}

LOCAL = {"hf": ("vllm",), "vllm": ("hf",)}
"""Engines on this machine, each with those that must end before it starts."""

SHARDS = 8
"""Largest number of shards of a chunk if there are several workers."""


def make_completions(run: Run) -> None:
    """Write the completions of all shards to completions/<subject>/<benchmark>/.

    Completions of an interrupted run are reused. A subject whose adapter the engine refuses is left out, as
    if its training had failed. Requests that a server did not answer are recorded as failed, and the next
    run sends them again.
    """
    shards = all_shards(run)
    pending = [s for s in shards if not _done(run, s)]
    total, remaining = sum(_size(run, s) for s in shards), sum(_size(run, s) for s in pending)
    if not pending:
        say(f"completions: {total:,} of {total:,} completions are already there")
        return
    with run.progress("completions", total, "completions", total - remaining) as progress:
        size = run.workers.size("completions", remaining, PER_PROCESS)
        chunks = _chunks(run, pending, size)
        run.workers.run_chunks(chunks, complete_chunk, give_up_shard, progress, size)
    forget_shards(run)  # engines may have refused adapters, and workers have written


def _chunks(run: Run, pending: list[Shard], workers: int) -> list[Chunk]:
    """Return the chunks of the pending shards. The leading process handles servers: it has the API keys."""
    by_engine: dict[tuple[str, bool], list[Shard]] = {}
    for shard in pending:
        by_engine.setdefault((_engine_name(run, shard), _served(run, shard)), []).append(shard)
    return [
        chunk
        for (name, served), group in by_engine.items()
        for chunk in make_chunks(
            "completions", name, [item_of(run, s) for s in group], workers, SHARDS, local=served
        )
    ]


def complete_chunk(run: Run, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Complete the shards of a chunk that are not done yet. An engine that fails is not used again."""
    shards = [shard for item in chunk.items if not _done(run, shard := shard_of(run, item))]
    engines = run.cache.get(Engines, lambda: Engines(run))
    try:
        collect(run, engines[chunk.handler], shards, meter)
    except Exception:
        if not run.dry:  # a dry run's engine knows which tasks it has failed already
            engines.discard(chunk.handler)
        raise
    return {"shards": len(shards)}


def give_up_shard(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Record the missing completions of a shard as failed."""
    shard = shard_of(run, chunk.items[0])
    reason = f"task failed: {fault.summary.partition(' ')[0]}"
    _, state = _task(run, shard, Tally())
    for request in state.requests:
        state.completions.setdefault(request.completion_id, failed(request, reason))
    _finish(run, state)
    return record_fault(run, chunk.stage, shard.completions.path, fault)


def _size(run: Run, shard: Shard) -> int:
    """Return the number of completions of a shard."""
    return len(shard.prompts) * run.plan.samples(shard.subject.arm, shard.benchmark)


def _done(run: Run, shard: Shard) -> bool:
    """Return whether a shard is stored and every request was answered."""
    marker = run.store.marker(shard.completions)
    return marker is not None and not marker.get("unanswered")


def _served(run: Run, shard: Shard) -> bool:
    """Return whether a server completes a shard."""
    return bool(run.study.server_of(shard.subject.arm)) and run.dry is None


def _engine_name(run: Run, shard: Shard) -> str:
    """Return the name of a shard's engine, or the field that describes its server."""
    samples = run.study.benchmarks.chosen()[shard.benchmark].samples
    return run.study.server_field(shard.subject.arm) or run.study.engine.of(samples)


class Engines:
    """The engines of a process by name, each started on first use."""

    def __init__(self, run: Run):
        self._run = run
        self._started: dict[str, CompletionEngine] = {}

    def __getitem__(self, name: str) -> CompletionEngine:
        """Return an engine by its name or by the field that describes its server.

        Engines on this machine take turns: there is memory for one.
        """
        if name not in self._started:
            for other in LOCAL.get(name, ()):
                self.discard(other)
            self._started[name] = _start(self._run, name)
        return self._started[name]

    def discard(self, name: str) -> None:
        """Let go of an engine, and end its processes. It is started again when it is next asked for."""
        close = getattr(self._started.pop(name, None), "close", None)
        if close is not None:
            close()

    def close(self) -> None:
        """Drop all engines and close those that can be closed."""
        for name in list(self._started):
            self.discard(name)


def _start(run: Run, name: str) -> CompletionEngine:
    """Start an engine."""
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

        run.loaded.free()  # vLLM loads the base itself
        run.cache.forget(Session)
        context, (rank, targets) = longest_request(run), adapter_shape(run)
        return VllmEngine(run.base.path, study.engine, chat, rank, study.seed, context, targets)
    from unharm.engines.hf import HfEngine

    batch = None if study.engine.batch == "auto" else study.engine.batch
    end = turn_end(run.loaded.tokenizer, run.plan.chat_form) if chat else None
    return HfEngine(run.loaded.model, run.loaded.tokenizer, study.prompting.format, batch, end)


@dataclass
class _OpenShard:
    """A shard that is being completed: its requests, its completions so far, and their file."""

    shard: Shard
    requests: list[Request]
    completions: dict[str, Completion]
    parts: Parts
    end_task: Callable[[], None]


def collect(run: Run, engine: CompletionEngine, shards: list[Shard], progress: Meter) -> None:
    """Complete shards with an engine. Store each completion at once and each shard when it is complete."""
    open_shards: dict[str, _OpenShard] = {}
    refused: dict[str, str] = {}
    served = any(run.study.server_of(s.subject.arm) for s in shards)

    def tasks() -> Iterator[Task]:
        for shard in shards:
            if interrupt.stop_requested():
                return
            task, state = _task(run, shard, progress)
            if str(task.adapter) in refused:
                continue
            open_shards[task.name] = state
            if task.requests:
                yield task
            else:
                _finish(run, open_shards.pop(task.name))

    def refuse(task: Task, error: UserError) -> None:
        adapter = adapter_tasks(run).of_subject(open_shards.pop(task.name).shard.subject)
        if adapter is None or adapter.plan.source:
            raise error
        reason = error.problems[0].message
        refused[str(task.adapter)] = reason
        run.store.put_text(adapter.failed, json.dumps({"why": reason}))
        say(f"{adapter.label}: refused, and left out of the following stages ({reason})")

    for task, completion in engine.complete(tasks(), refuse):
        state = open_shards[task.name]
        if run.study.prompt_style(state.shard.subject.arm) != "base":
            prompt = next(r.text for r in state.requests if r.completion_id == completion.completion_id)
            completion = without_thought(completion, prompt)
        state.completions[completion.completion_id] = completion
        state.parts.add(vars(completion), synced=served)
        progress.tick(1)
        if len(state.completions) == len(state.requests):
            _finish(run, open_shards.pop(task.name))


def _task(run: Run, shard: Shard, progress: Meter) -> tuple[Task, _OpenShard]:
    """Return the task with the open requests of a shard, and the shard's state."""
    chat = run.study.prompt_style(shard.subject.arm) == "chat"
    wanted = keys.requests(run.plan, shard, run.loaded.tokenizer if chat else None)
    parts = run.store.parts(shard.completions)
    stored = {c.completion_id: c for c in _stored_completions(run, shard, parts)}
    stored = {r.completion_id: stored[r.completion_id] for r in wanted if r.completion_id in stored}
    progress.skip(len(stored))
    end_task = run.begin_task("completions", shard.completions, kept=len(stored), wanted=len(wanted))
    state = _OpenShard(shard, wanted, stored, parts, end_task)
    spec = run.study.benchmarks.chosen()[shard.benchmark]
    sampling = Sampling(spec.max_tokens, spec.temperature, spec.top_p, tuple(spec.stop))
    missing = tuple(r for r in wanted if r.completion_id not in stored)
    return Task(shard.completions.path, missing, sampling, adapter_folder(run, shard.subject)), state


def _stored_completions(run: Run, shard: Shard, parts: Parts) -> Iterator[Completion]:
    """Yield the completions of earlier runs, without requests that a server did not answer."""
    rows = parts.rows()
    if run.store.done(shard.completions):
        thoughts = {}
        if run.store.done(shard.thoughts):
            thoughts = dict(run.store.scan(shard.thoughts).collect().iter_rows())
        stored = run.store.scan(shard.completions).collect().to_dicts()
        rows += [row | {"thought": thoughts.get(row["completion_id"], "")} for row in stored]
    for row in rows:
        if {*row, "thought"} == {*COMPLETIONS, "thought"}:
            completion = Completion(**row | {"options": tuple(row["options"])})
            if completion.status == "completed" or completion.reason in PERMANENT:
                yield completion


def _finish(run: Run, state: _OpenShard) -> None:
    """Write the table of a shard. Scores of an earlier version are removed first."""
    shard = state.shard
    rows = [state.completions[r.completion_id] for r in state.requests]
    unanswered = sum(c.status == "failed" and c.reason not in PERMANENT for c in rows)
    if run.store.done(shard.completions):
        for scores in shard.scored.values():
            run.store.remove(scores)
    columns = {name: [getattr(c, name) for c in rows] for name in COMPLETIONS}
    frame = pl.DataFrame(columns, schema=COMPLETIONS)
    run.store.put_table(shard.completions, frame, unanswered=unanswered)
    thoughts = [(c.completion_id, c.thought) for c in rows if c.thought]
    if thoughts:
        run.store.put_table(shard.thoughts, pl.DataFrame(thoughts, schema=THOUGHTS, orient="row"))
    state.parts.drop()
    state.end_task()
