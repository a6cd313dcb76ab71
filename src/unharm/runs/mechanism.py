"""The mechanism of a run: its directions, held-out texts, and the shifts of every adapter along them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from unharm.analysis.mechanism import HARM, Shifts
from unharm.benchmarks import harmless
from unharm.benchmarks.registry import HARMLESS, select_half
from unharm.benchmarks.settings import embedded_file
from unharm.core.draws import rank
from unharm.core.hashing import content_hash, content_key
from unharm.core.records import Prompt
from unharm.core.values import VALUES
from unharm.runs import keys
from unharm.runs.adapters import AdapterTask, adapter_tasks, failed_adapters
from unharm.runs.context import Run
from unharm.runs.steering import base_parameters, vectors_artefact
from unharm.store.store import Artefact
from unharm.study.spec import REQUEST_BENCHMARKS

FOLDER = "mechanism"
SHIFTS: dict[str, Any] = {
    "direction": pl.String, "layer": pl.Int64, "shift": pl.Float64, "cosine": pl.Float64,
}  # fmt: skip
"""Columns of the table of one adapter's shifts."""


def measured(run: Run) -> list[AdapterTask]:
    """Return the adapters whose shifts are measured: those of the study's arms that did not fail."""
    failed = failed_adapters(run)
    return [t for t in adapter_tasks(run).every if t.plan.arm in run.study.arms and t not in failed]


def harmful_prompts(run: Run, half: str) -> list[Prompt]:
    """Return one half of the prompts of the study's benchmarks of harmful requests."""
    chosen = [b for b in run.study.benchmarks.chosen() if b in REQUEST_BENCHMARKS]
    return [p for b in chosen for p in select_half(run.plan.prompts[b].prompts, half, run.study.seed)]


def harmless_prompts(run: Run, half: str) -> list[Prompt]:
    """Return one half of the harmless questions: those of the study, or ours."""
    if HARMLESS in run.plan.prompts:
        prompts = run.plan.prompts[HARMLESS].prompts
    else:
        prompts, _ = harmless.read(embedded_file(harmless.Harmless.ships))
    return select_half(prompts, half, run.study.seed)


def held_out_texts(run: Run) -> list[tuple[str, str]]:
    """Return prompt and answer of each held-out text: the other half of the requests and questions, and
    statements of the test split. Neither vectors nor the harm direction were made of them."""
    assert run.study.mechanism is not None
    plan = run.plan
    asked = [(plan.pack.fill("ask", prompt=p.text), "") for p in harmful_prompts(run, "b")]
    asked += [(plan.pack.fill("ask", prompt=p.text), "") for p in harmless_prompts(run, "b")]
    said = [plan.pack.ag(a, would=True) for a in plan.arguments if plan.splits[a.id] == "test"]
    texts = [*asked, *said]
    return sorted(texts, key=lambda t: rank(run.study.seed, "".join(t)))[: run.study.mechanism.texts]


def harm_artefact(run: Run) -> Artefact | None:
    """Return the folder of the harm direction; None if the study has no harmful requests."""
    texts = [[p.text for p in prompts(run, "a")] for prompts in (harmful_prompts, harmless_prompts)]
    if not all(texts):
        return None
    key = content_key(
        "mechanism", keys.VERSIONS["mechanism"], base_parameters(run.plan), run.base.key,
        content_hash(texts), run.plan.pack.key,
    )  # fmt: skip
    return Artefact(f"{FOLDER}/harm-direction.{key[:12]}", key)


def shifts_artefact(run: Run, task: AdapterTask) -> Artefact:
    """Return the table of an adapter's shifts. Raise `NotDone` if the adapter is not made yet."""
    harm = harm_artefact(run)
    content = run.store.locate(task.artefact).name
    key = content_key(
        "mechanism", keys.VERSIONS["mechanism"], base_parameters(run.plan), run.base.key, content,
        vectors_artefact(run, "mean").key, harm.key if harm else "", content_hash(held_out_texts(run)),
    )  # fmt: skip
    name = keys.folder(task.plan.arm, task.plan.profile_name, seed=task.plan.seed)
    return Artefact(f"{FOLDER}/{name}.{key[:12]}.csv", key, {"adapter": task.label})


def harm_folder(run: Run) -> Path | None:
    """Return the folder of the harm direction, or None if there is none."""
    artefact = harm_artefact(run)
    return run.store.locate(artefact) if artefact else None


def direction_names(run: Run) -> tuple[str, ...]:
    """Return the names of the directions: the values, and harm if the study has harmful requests."""
    return (*VALUES, *([HARM] if harm_artefact(run) else []))


def stored_shifts(run: Run) -> dict[tuple[str, str], list[Shifts]]:
    """Read the shifts of all adapters by arm and profile, one per training seed."""
    stored: dict[tuple[str, str], list[Shifts]] = {}
    for task, artefact in shift_tables(run):
        frame = run.store.read_table(artefact.path, SHIFTS)
        names = tuple(frame["direction"].unique(maintain_order=True))
        shape = (-1, len(names))
        shift, cosine = (frame[column].to_numpy().reshape(shape) for column in ("shift", "cosine"))
        stored.setdefault((task.plan.arm, task.plan.profile_name), []).append(Shifts(names, shift, cosine))
    return stored


def shift_tables(run: Run) -> Iterator[tuple[AdapterTask, Artefact]]:
    """Yield the adapters whose shifts are stored, each with its table."""
    if run.study.mechanism is None:
        return
    for task in measured(run):
        artefact = shifts_artefact(run, task)
        if run.store.done(artefact):
            yield task, artefact
