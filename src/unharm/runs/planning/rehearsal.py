"""A dry run of a whole study: all stages, tables and files, but made-up answers instead of models.

Engines and scorers answer and fail at given rates. A dry run measures the cost of the pipeline itself.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from unharm.core.pace import Dry
from unharm.core.progress import duration
from unharm.runs.context import Run
from unharm.runs.execute import execute
from unharm.runs.pipeline import stages_to
from unharm.runs.plan import Plan
from unharm.runs.shards import all_shards
from unharm.store.store import Store
from unharm.study.spec import Study

MAX_ROUNDS = 4
"""Largest number of rounds: after failed tasks, a dry run is continued."""


@dataclass(frozen=True)
class Rehearsal:
    """The result of a dry run.

    `cost_per_completion_ms` is the processor time of all processes per completion, including the time to
    make up answers. `peak_mib` is the memory of the largest process. `rounds` counts how often the run was
    started, because it is continued after tasks failed twice.
    """

    study: str
    subjects: int
    shards: int
    completions: int
    scored: int
    faults: float
    failed_for_good: int
    rounds: int
    seconds: float
    planning_s: float
    processor_s: float
    cost_per_completion_ms: float
    peak_mib: int
    files: int
    gib: float


def rehearse(study: Study, dry: Dry, folder: Path) -> Rehearsal:
    """Run a study in `folder` with made-up answers, up to its findings."""
    study = study.model_copy(update={"output": str(folder), "mitigation": None})
    began = time.perf_counter()
    plan = Plan(study, sizes_only=True)
    plan.check_inputs()
    planned = time.perf_counter() - began
    spent, rounds, failed = _processor_time(), 0, 1
    run = Run(study, Store(folder), plan, dry=dry)
    while failed and rounds < MAX_ROUNDS:
        run = Run(study, Store(folder), plan, dry=dry)
        execute(run, stages_to("findings"))
        failed = len(run.workers.failures)
        rounds += 1
    seconds, spent = time.perf_counter() - began, _processor_time() - spent
    count = run.scored + run.unscored
    files = [f for f in folder.rglob("*") if f.is_file()]
    return Rehearsal(
        study=study.name,
        subjects=len(plan.subjects),
        shards=len(all_shards(run)),
        completions=count,
        scored=run.scored,
        faults=dry.faults,
        failed_for_good=failed,
        rounds=rounds,
        seconds=round(seconds, 1),
        planning_s=round(planned, 2),
        processor_s=round(spent, 1),
        cost_per_completion_ms=round(1000 * spent / max(count, 1), 4),
        peak_mib=round(peak_memory()),
        files=len(files),
        gib=round(sum(f.stat().st_size for f in files) / 2**30, 3),
    )


def _processor_time() -> float:
    """Return the processor seconds of this process and of its ended children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def peak_memory() -> float:
    """Return the memory of the largest process so far, in MiB."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1024


def rehearsal_text(rehearsal: Rehearsal) -> str:
    """Return a rehearsal as text."""
    return "\n".join(
        [
            f"dry run     {rehearsal.study}: {rehearsal.subjects:,} subjects, {rehearsal.shards:,} shards, "
            f"{rehearsal.completions:,} completions; {100 * rehearsal.faults:g} % of tries "
            "failed on purpose",
            f"time        {duration(rehearsal.seconds)}, of which planning {rehearsal.planning_s:.1f} s",
            f"cost        {rehearsal.cost_per_completion_ms:.3f} ms of processor time per completion",
            f"memory      {rehearsal.peak_mib:,} MiB at most in one process",
            f"storage     {rehearsal.files:,} files, {rehearsal.gib:.2f} GiB",
            f"in the end  {rehearsal.scored:,} scored, {rehearsal.completions - rehearsal.scored:,} not, "
            f"{rehearsal.failed_for_good} tasks failed for good, {rehearsal.rounds} rounds",
        ]
    )
