"""A whole study without a model: every stage, table and file for real, with engines and scorers that make
answers up at given rates and fail at given rates. It tells what the pipeline itself costs.
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

ROUNDS = 4
"""How often a dry run goes on from where tasks have failed."""


@dataclass(frozen=True)
class Rehearsal:
    """What a dry run took.

    `cost_per_completion_ms` is processor time of all processes of the run by completion: the pipeline's
    own, with what making the answers up takes. `peak_mib` is that of the largest process. Where tasks
    failed twice, the run goes on from there, as the same command would; `rounds` counts.
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
    """Run a whole study in dry in `folder`, up to its findings."""
    study = study.model_copy(update={"output": str(folder), "mitigation": None})
    began = time.perf_counter()
    plan = Plan(study, sizes_only=True)
    plan.check_inputs()
    planned = time.perf_counter() - began
    spent, rounds, failed = _processor_time(), 0, 1
    run = Run(study, Store(folder), plan, dry=dry)
    while failed and rounds < ROUNDS:
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
    """Seconds of this process and of all that it started and that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def peak_memory() -> float:
    """MiB of the largest process of the run so far."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1024


def rehearsal_text(found: Rehearsal) -> str:
    """A rehearsal for people."""
    return "\n".join(
        [
            f"dry run     {found.study}: {found.subjects:,} subjects, {found.shards:,} shards, "
            f"{found.completions:,} completions; {100 * found.faults:g} % of tries failed on purpose",
            f"time        {duration(found.seconds)}, of which planning {found.planning_s:.1f} s",
            f"cost        {found.cost_per_completion_ms:.3f} ms of processor time per completion",
            f"memory      {found.peak_mib:,} MiB at most in one process",
            f"storage     {found.files:,} files, {found.gib:.2f} GiB",
            f"in the end  {found.scored:,} scored, {found.completions - found.scored:,} not, "
            f"{found.failed_for_good} tasks failed for good, {found.rounds} rounds",
        ]
    )
