"""The workers of a run: which executor, how many, and what each of them gets."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm.errors import UserError
from unharm.executors.carry import Here, Pool, carry_out
from unharm.executors.chunks import Chunk, Fault, Job, do
from unharm.executors.faults import give_up
from unharm.executors.settings import Demand, demand, processors, threads
from unharm.progress import Progress
from unharm.scoring.settings import ClassifierSpec, PerplexitySpec

if TYPE_CHECKING:
    from unharm.pipeline import Run

PAYS = {"adapters": 16, "completions": 20_000, "scores": 100_000}
"""So many adapters, completions and texts for each process of this machine: a start costs some seconds."""


@dataclass
class Workers:
    """The workers of a run, started when a stage needs them and kept while the next one asks for the
    same."""

    run: Run
    _pool: Pool | None = None
    _of: tuple[Demand, int] | None = None
    _cluster: Any = None
    failures: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Looks before any work whether the executor can be used. Raises `UserError` with what is wrong."""
        scored = any(has_model(self.run, name) for name in self.run.plan.scorers)
        stages = ["adapters", "completions", *(["scores"] if scored else [])]
        demands = [self._demand(stage, True) for stage in stages]
        if self.run.study.executor.name == "ray":
            self.cluster.check(self.run, demands)
        elif (asked := max(wanted.gpus for wanted in demands)) > (there := len(accelerators())):
            what = f"one task asks for {asked:g} gpus, this machine has {there}"
            raise UserError(what, "executor.gpus", "ask for less, or use a larger machine")

    @property
    def cluster(self) -> Any:
        """The Ray cluster of the study, connected once."""
        if self._cluster is None:
            from unharm.executors.cluster import Cluster

            self._cluster = Cluster(self.run.study.executor)
        return self._cluster

    def size(self, stage: str, items: int, with_model: bool = True) -> int:
        """How many chunks of a stage are done at a time, for so many items of work."""
        spec = self.run.study.executor
        wanted = self._demand(stage, with_model)
        if spec.name == "ray":
            most: int = self.cluster.room(wanted)
            return most if spec.workers == "auto" else min(most, spec.workers)
        if spec.workers != "auto":
            return spec.workers
        if wanted.gpus:
            return max(1, int(len(accelerators()) / wanted.gpus))
        room = min(processors() // wanted.cpus, self._bases_that_fit() if with_model else 1 << 30)
        return max(1, min(room, 1 + items // PAYS[stage] if items >= PAYS[stage] else 1))

    def on_accelerators(self, stage: str) -> bool:
        """Whether the workers of a stage have accelerators."""
        return self._demand(stage, True).gpus > 0

    def carry_out(
        self, stage: str, chunks: list[Chunk], progress: Progress, size: int, with_model: bool = True
    ) -> Counter[str]:
        """Has chunks done by so many workers; see `carry.carry_out`."""
        here = [c for c in chunks if c.here]
        rest = [c for c in chunks if not c.here]
        counts: Counter[str] = Counter()
        if rest:
            pool = self._pool_for(stage, size, with_model)
            counts += carry_out(pool, rest, progress, self._give_up)
        if here:
            counts += carry_out(self._here(), here, progress, self._give_up)
        return counts

    def close(self) -> None:
        """Ends all workers."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._of = None

    def leave(self) -> None:
        """Ends all workers and the connection to the cluster."""
        self.close()
        if self._cluster is not None:
            self._cluster.leave()
            self._cluster = None

    def _give_up(self, chunk: Chunk, fault: Fault) -> None:
        self.failures.append(give_up(self.run, chunk, fault))

    def _demand(self, stage: str, with_model: bool) -> Demand:
        spec = self.run.study.executor
        there = self.cluster.has_accelerators if spec.name == "ray" else bool(accelerators())
        wanted = self.run.study.engine.device
        on_gpu = there and (wanted == "auto" or wanted.startswith("cuda"))
        return demand(spec, stage, with_model, on_gpu, self.run.base.bytes)

    def _pool_for(self, stage: str, size: int, with_model: bool) -> Pool:
        spec, wanted = self.run.study.executor, self._demand(stage, with_model)
        if spec.name == "local" and size == 1 and (spec.workers in (1, "auto")):
            self.close()
            return self._here()
        if self._pool is None or self._of != (wanted, size):
            self.close()
            job = self._job(wanted)
            if spec.name == "ray":
                self._pool = self.cluster.actors(job, wanted, size)
            else:
                from unharm.executors.processes import Processes

                self._pool = Processes(job, size, dealt(accelerators(), wanted.gpus))
            self._of = wanted, size
        return self._pool

    def _here(self) -> Pool:
        return Here(lambda chunk, progress: do(self.run, chunk, progress))

    def _job(self, wanted: Demand) -> Job:
        run = self.run
        return Job(
            run.study.model_dump(mode="json"),
            str(run.store.location),
            str(Path.cwd()),
            run.base,
            min(threads(run.study.executor, run.base.bytes), wanted.cpus),
            run.dry,
        )

    def _bases_that_fit(self) -> int:
        """How many copies of the base fit into half of the free memory, twice the size of their files
        each."""
        import psutil

        return max(1, int(psutil.virtual_memory().available / 2 / max(1, 2 * self.run.base.bytes)))


def dealt(accelerators: list[str], each: float) -> list[str]:
    """What each worker sees of the accelerators: so many of them, or one that it shares."""
    if not each:
        return []
    size = max(1, int(each))
    groups = [accelerators[i : i + size] for i in range(0, len(accelerators), size)]
    return [",".join(group) for group in groups if len(group) == size]


def accelerators() -> list[str]:
    """The numbers of the accelerators that this process sees."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = [n.strip() for n in given.split(",") if n.strip()] if given is not None else None
    return (
        seen
        if seen is not None and torch.cuda.is_available()
        else list(map(str, range(torch.cuda.device_count())))
    )


def has_model(run: Run, scorer: str) -> bool:
    """Whether a scorer loads a model of its own, or the base."""
    return isinstance(run.study.scorers.get(scorer), ClassifierSpec | PerplexitySpec)
