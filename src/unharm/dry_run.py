"""A whole study without a model: every stage, table and file for real, with engines and scorers that make
answers up at given rates and fail at given rates. It tells what the pipeline itself costs.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm.engines.requests import Refused, Task
from unharm.progress import duration
from unharm.records import Completion, Score
from unharm.scoring.texts import Text

if TYPE_CHECKING:
    from unharm.executors.chunks import Chunk
    from unharm.pipeline import Run
    from unharm.progress import Progress, Tally
    from unharm.study import Study

ROUNDS = 4
"""How often a dry run goes on from where tasks have failed."""
TEXTS = 2048
"""Different answers that are made up."""
REPEATED = 0.45
"""The share of the samples of a prompt that repeat its first, as measured at temperature 0.1."""


@dataclass(frozen=True)
class Dry:
    """Completions and scores a second of one worker (None: as fast as it can), and the share of tries that
    fail: requests and texts (tried again, as real engines and services do), and shards, whose whole task
    raises an error once. `built_in_scorers` are used as they are, in place of made-up scores."""

    engine_rate: float | None = None
    scorer_rate: float | None = None
    faults: float = 0.0
    built_in_scorers: bool = False


class Fault(RuntimeError):
    """An error that was asked for."""


@dataclass
class _Pace:
    """Waits where work goes faster than a rate."""

    rate: float | None
    due: float = field(default_factory=time.monotonic)

    def wait(self, items: int) -> None:
        if self.rate:
            self.due = max(self.due, time.monotonic() - 1) + items / self.rate
            time.sleep(max(0.0, self.due - time.monotonic()))


def _texts(tokens: int) -> list[str]:
    draw = random.Random(tokens)
    words = ["".join(draw.choices("etaoinshrdlucm", k=draw.randint(2, 8))) for _ in range(500)]
    return [
        " ".join(draw.choices(words, k=max(1, draw.randint(tokens // 2, tokens) * 3 // 4))).capitalize()
        + "."
        for _ in range(TEXTS)
    ]


class DryEngine:
    """Completes tasks with texts of about the right length; the same request always gets the same."""

    def __init__(self, dry: Dry):
        self.dry, self.pace = dry, _Pace(dry.engine_rate)
        self._pools: dict[int, list[str]] = {}
        self._raised: set[str] = set()

    def complete(self, tasks: Iterable[Task], refused: Refused) -> Iterator[tuple[Task, Completion]]:
        """See `Engine`."""
        for task in tasks:
            if _drawn(task.name) < self.dry.faults and task.name not in self._raised:
                self._raised.add(task.name)
                raise Fault("a task that fails, as asked for")
            most = task.sampling.max_tokens
            if most not in self._pools:
                self._pools[most] = _texts(most)
            pool = self._pools[most]
            self.pace.wait(len(task.requests))
            first = 0
            for request in task.requests:
                if request.seed % 10_007 < 10_007 * self.dry.faults:
                    self.pace.wait(1)  # the first try was for nothing
                if request.sample == 0:
                    first = request.seed
                again = request.sample and request.seed % 1000 < 1000 * REPEATED
                text = pool[(first if again else request.seed) % TEXTS]
                options = tuple(1 / 8 for _ in request.options)
                yield task, Completion(
                    request.completion_id, request.prompt_id, request.sample, text, "length",
                    len(request.text) // 4, most, options=options,
                )  # fmt: skip


class DryScorer:
    """Scores of a measure, drawn from the text; one text in `faults` needs another try."""

    def __init__(self, dry: Dry, measures: str):
        self.dry, self.measures, self.pace = dry, measures, _Pace(dry.scorer_rate)

    def __call__(self, texts: Sequence[Text]) -> list[Score]:
        found = []
        for text in texts:
            drawn = hash_of(text.id)
            self.pace.wait(2 if drawn < self.dry.faults else 1)
            if self.measures == "toxicity":
                found.append(Score(text.id, drawn**3, "toxic" if drawn**3 >= 0.5 else ""))
            elif self.measures == "harmfulness":
                found.append(Score(text.id, 1.0 + int(drawn * 5), ""))
            elif self.measures == "rating":
                found.append(Score(text.id, 1.0 + int(drawn * 6), ""))
            else:
                found.append(Score(text.id, float(drawn < 0.3), "negative" if drawn < 0.3 else "positive"))
        return found


def hash_of(identity: str) -> float:
    """A number in [0, 1) that the id of a completion fixes."""
    return int(identity[-8:], 16) / 2**32


def _drawn(name: str) -> float:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 2**32


def dry_adapters(run: Run, chunk: Chunk, tally: Tally | Progress) -> dict[str, int]:
    """A folder for every adapter of a chunk, as training would leave it, without weights."""
    from unharm.training.stage import tasks_of

    wanted = {key for _, key in chunk.pieces}
    for adapter, artefact in run.kept("tasks", lambda: tasks_of(run)).items():
        if artefact.key not in wanted or run.store.done(artefact):
            continue

        def write(folder: Path, key: str = artefact.key, stage: str = adapter.stage) -> dict[str, Any]:
            (folder / "adapter_config.json").write_text(json.dumps({"dry_run": key}))
            none: dict[str, Any] = {"train_loss": [], "valid_loss": [], "epoch_steps": [], "best_epoch": 0}
            return {"stage": stage, "examples": 0, "left_out_too_long": 0, **none}

        run.store.put_folder(artefact, write, under="adapters")
    return {"adapters": len(chunk.pieces)}


def rehearse(study: Study, dry: Dry, folder: Path) -> dict[str, Any]:
    """Runs a whole study in dry in `folder`, up to its findings, and tells what it took.

    `cost_per_completion_ms` is processor time of all processes of the run by completion: the pipeline's
    own, with what making the answers up takes. `peak_mib` is the largest process's. Where tasks failed
    twice, the run goes on from there, as the same command would; `rounds` counts.
    """
    from unharm.pipeline import Run, execute
    from unharm.plan import Plan
    from unharm.store import Store

    study = study.model_copy(update={"output": str(folder), "mitigation": None})
    began = time.perf_counter()
    plan = Plan(study, sizes_only=True)
    plan.check_inputs()
    planned = time.perf_counter() - began
    spent, rounds, failed = _processor_time(), 0, 1
    run = Run(study, Store(folder), plan, dry=dry)
    while failed and rounds < ROUNDS:
        run = Run(study, Store(folder), plan, dry=dry)
        execute(run, ["profiles", "examples", "adapters", "completions", "scores", "findings"])
        failed = len(run.workers.failures)
        rounds += 1
    seconds, spent = time.perf_counter() - began, _processor_time() - spent
    count = run.scored + run.unscored
    files = [f for f in folder.rglob("*") if f.is_file()]
    return {
        "study": study.name,
        "subjects": len(plan.subjects),
        "shards": len(run.shards),
        "completions": count,
        "scored": run.scored,
        "faults": dry.faults,
        "failed_for_good": failed,
        "rounds": rounds,
        "seconds": round(seconds, 1),
        "planning_s": round(planned, 2),
        "processor_s": round(spent, 1),
        "cost_per_completion_ms": round(1000 * spent / max(count, 1), 4),
        "peak_mib": round(peak_memory()),
        "files": len(files),
        "gib": round(sum(f.stat().st_size for f in files) / 2**30, 3),
    }


def _processor_time() -> float:
    """Seconds of this process and of all that it started and that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def peak_memory() -> float:
    """MiB of the largest process of the run so far."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1024


def rehearsal_text(told: dict[str, Any]) -> str:
    """What a dry run took, for people."""
    return "\n".join(
        [
            f"dry run     {told['study']}: {told['subjects']:,} subjects, {told['shards']:,} shards, "
            f"{told['completions']:,} completions; {100 * told['faults']:g} % of tries failed on purpose",
            f"time        {duration(told['seconds'])}, of which planning {told['planning_s']:.1f} s",
            f"cost        {told['cost_per_completion_ms']:.3f} ms of processor time per completion",
            f"memory      {told['peak_mib']:,} MiB at most in one process",
            f"storage     {told['files']:,} files, {told['gib']:.2f} GiB",
            f"in the end  {told['scored']:,} scored, {told['completions'] - told['scored']:,} not, "
            f"{told['failed_for_good']} tasks failed for good, {told['rounds']} rounds",
        ]
    )
