"""The workers of a run: which executor, how many, and with which resources."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unharm.core.errors import UserError
from unharm.core.progress import Progress
from unharm.executors.chunks import Chunk, Fault, GiveUp, Job, Work, run_chunk
from unharm.executors.dispatch import InProcess, Pool, dispatch
from unharm.executors.processes import Processes
from unharm.executors.settings import Demand, ExecutorSpec, demand, processors, threads

if TYPE_CHECKING:
    from unharm.executors.ray_cluster import Cluster


@dataclass
class Workers:
    """The workers of a run. A stage starts them; the next stage reuses them if it needs the same.

    Attributes:
        spec: The executor's settings.
        device: The device in the study, or `auto`.
        base_bytes: Returns the size of the base's weights; 0 if it is not on this machine.
        job: Returns the job of a worker with this many threads, on this device.
        context: The run, for chunks that run in this process.
        failures: One line for each item that was given up.
    """

    spec: ExecutorSpec
    device: str
    base_bytes: Callable[[], int]
    job: Callable[[int, str], Job]
    context: Any
    failures: list[str] = field(default_factory=list)
    _pool: Pool | None = None
    _pool_of: tuple[Demand, int] | None = None
    _cluster: Cluster | None = None

    def check(self, stages: list[str], needed: list[tuple[str, str]]) -> None:
        """Check that the executor can be used, before any work.

        Args:
            stages: The stages that need a model.
            needed: Field and path of every file that a worker on another machine must see.

        Raises:
            UserError: With every problem.
        """
        demands = [self._demand(stage, True) for stage in stages]
        if self.spec.name == "ray":
            if ":" in self.device:
                raise UserError(
                    f"{self.device} names one accelerator of one machine, and Ray assigns them itself",
                    "engine.device",
                    f"write {self.device.partition(':')[0]!r}",
                )
            self.cluster.check(demands, needed)
            return
        if self.device.startswith("cuda:") and not self._accelerators() and accelerators():
            message = f"this machine has no {self.device}: its accelerators are {_listed(accelerators())}"
            raise UserError(message, "engine.device", "choose one of these, or 'auto'")
        asked, available = max(wanted.gpus for wanted in demands), len(self._accelerators())
        if asked > available:
            message = f"one task asks for {asked:g} gpus, this machine has {available}"
            raise UserError(message, "executor.gpus", "ask for less, or use a larger machine")

    @property
    def cluster(self) -> Cluster:
        """The Ray cluster, connected on first use."""
        if self._cluster is None:
            from unharm.executors.ray_cluster import Cluster

            self._cluster = Cluster(self.spec)
        return self._cluster

    def size(self, stage: str, items: int, per_process: int, with_model: bool = True) -> int:
        """Return how many chunks of a stage with this many items run at a time.

        `per_process` items make one more local process worth its start time.
        """
        wanted = self._demand(stage, with_model)
        if self.spec.name == "ray":
            fitting = self.cluster.room(wanted)
            return fitting if self.spec.workers == "auto" else min(fitting, self.spec.workers)
        if self.spec.workers != "auto":
            return self.spec.workers
        if wanted.gpus:
            return max(1, int(len(self._accelerators()) / wanted.gpus))
        room = min(processors() // wanted.cpus, self._bases_that_fit() if with_model else 1 << 30)
        return max(1, min(room, 1 + items // per_process if items >= per_process else 1))

    def on_accelerators(self, stage: str) -> bool:
        """Return whether the workers of a stage have accelerators."""
        return self._demand(stage, True).gpus > 0

    def run_chunks(
        self,
        chunks: list[Chunk],
        work: Work,
        give_up: GiveUp,
        progress: Progress,
        size: int,
        with_model: bool = True,
    ) -> Counter[str]:
        """Run the chunks of one stage on `size` workers and sum their counts; see `dispatch`."""

        def record(chunk: Chunk, fault: Fault) -> None:
            self.failures.append(give_up(self.context, chunk, fault))

        counts: Counter[str] = Counter()
        distributed = [c for c in chunks if not c.local]
        if distributed:
            pool = self._pool_for(distributed[0].stage, size, with_model)
            counts += dispatch(pool, distributed, work, record, progress)
        if local := [c for c in chunks if c.local]:
            counts += dispatch(self._in_process(), local, work, record, progress)
        return counts

    def close(self) -> None:
        """End all workers. The connection to a cluster stays open."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._pool_of = None

    def disconnect(self) -> None:
        """End all workers and disconnect from the cluster."""
        self.close()
        if self._cluster is not None:
            self._cluster.disconnect()
            self._cluster = None

    def _demand(self, stage: str, with_model: bool) -> Demand:
        """Return the resources of one worker of a stage."""
        has_gpus = self.cluster.has_accelerators if self.spec.name == "ray" else bool(accelerators())
        on_gpu = has_gpus and (self.device == "auto" or self.device.startswith("cuda"))
        return demand(self.spec, stage, with_model, on_gpu, self.base_bytes())

    def _pool_for(self, stage: str, size: int, with_model: bool) -> Pool:
        """Return a pool of `size` workers, the current one if it fits.

        A single worker is this process, unless it uses an accelerator: when that fails, only another
        process can go on. `workers: 1` keeps it here, except for a numbered device, which a process of its
        own sees alone.
        """
        wanted = self._demand(stage, with_model)
        asked_for = self.spec.workers == 1 and ":" not in self.device
        here = asked_for or (self.spec.workers in (1, "auto") and not wanted.gpus)
        if self.spec.name == "local" and size == 1 and here:
            self.close()
            return self._in_process()
        if self._pool is None or self._pool_of != (wanted, size):
            self.close()
            device = "cuda" if wanted.gpus and self.device.startswith("cuda:") else self.device
            job = self.job(min(threads(self.spec, self.base_bytes()), wanted.cpus), device)
            if self.spec.name == "ray":
                self._pool = self.cluster.actors(job, wanted, size)
            else:
                self._pool = Processes(job, size, group_accelerators(self._accelerators(), wanted.gpus))
            self._pool_of = wanted, size
        return self._pool

    def _accelerators(self) -> list[str]:
        """Return the accelerators that the study may use: all, or the one that `device` names."""
        seen, number = accelerators(), self.device.partition(":")[2]
        if not self.device.startswith("cuda") or not number:
            return seen
        return seen[int(number) : int(number) + 1]

    def _in_process(self) -> Pool:
        return InProcess(lambda chunk, work, progress: run_chunk(self.context, chunk, work, progress))

    def _bases_that_fit(self) -> int:
        """Return how many bases fit into half of the free memory, each with twice the size of its files."""
        import psutil

        return max(1, int(psutil.virtual_memory().available / 2 / max(1, 2 * self.base_bytes())))


def group_accelerators(accelerators: list[str], each: float) -> list[str]:
    """Group accelerators for workers: `each` of them per worker, or one that several workers share."""
    if not each:
        return []
    size = max(1, int(each))
    groups = [accelerators[i : i + size] for i in range(0, len(accelerators), size)]
    return [",".join(group) for group in groups if len(group) == size]


def _listed(names: list[str]) -> str:
    """Return the devices of this machine in words."""
    return ", ".join(f"cuda:{n}" for n in range(len(names)))


def accelerators() -> list[str]:
    """Return the numbers of the accelerators that this process sees."""
    import torch

    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = [n.strip() for n in variable.split(",") if n.strip()] if variable is not None else None
    if seen is not None and torch.cuda.is_available():
        return seen
    return list(map(str, range(torch.cuda.device_count())))
