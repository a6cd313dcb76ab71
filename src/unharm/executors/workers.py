"""The workers of a run: which executor, how many, and what each of them gets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unharm.core.errors import UserError
from unharm.core.progress import Progress
from unharm.executors.chunks import Chunk, Fault, GiveUp, Job, Work, do
from unharm.executors.dispatch import Here, Pool, dispatch
from unharm.executors.settings import Demand, ExecutorSpec, demand, processors, threads

if TYPE_CHECKING:
    from unharm.executors.ray_cluster import Cluster


@dataclass
class Workers:
    """The workers of a run, started when a stage needs them and kept while the next one asks for the same.

    Attributes:
        spec: The executor's settings.
        device: The device that the study names, or `auto`.
        base_bytes: Returns the size of the base's weights; 0 where it is not on this machine.
        job: Returns how a worker with this many threads opens the run.
        context: What chunks that are done in this process run in.
        failures: The lines that tell of items that were given up.
    """

    spec: ExecutorSpec
    device: str
    base_bytes: Callable[[], int]
    job: Callable[[int], Job]
    context: Any
    failures: list[str] = field(default_factory=list)
    _pool: Pool | None = None
    _pool_of: tuple[Demand, int] | None = None
    _cluster: Cluster | None = None

    def check(self, stages: list[str], needed: list[tuple[str, str]]) -> None:
        """Look before any work whether the executor can be used.

        Args:
            stages: The stages that need a model.
            needed: The field and path of every file that a worker on another machine must see.

        Raises:
            UserError: With everything that is wrong.
        """
        demands = [self._demand(stage, True) for stage in stages]
        if self.spec.name == "ray":
            self.cluster.check(demands, needed)
        elif (asked := max(wanted.gpus for wanted in demands)) > (there := len(accelerators())):
            what = f"one task asks for {asked:g} gpus, this machine has {there}"
            raise UserError(what, "executor.gpus", "ask for less, or use a larger machine")

    @property
    def cluster(self) -> Cluster:
        """The Ray cluster of the study, connected once."""
        if self._cluster is None:
            from unharm.executors.ray_cluster import Cluster

            self._cluster = Cluster(self.spec)
        return self._cluster

    def size(self, stage: str, items: int, pays: int, with_model: bool = True) -> int:
        """How many chunks of a stage are done at a time.

        Args:
            stage: The name of the stage, as in the executor's settings.
            items: How many items it has left.
            pays: A further process on this machine pays from this many items: it takes seconds to start.
            with_model: Whether the stage needs a model.
        """
        wanted = self._demand(stage, with_model)
        if self.spec.name == "ray":
            most = self.cluster.room(wanted)
            return most if self.spec.workers == "auto" else min(most, self.spec.workers)
        if self.spec.workers != "auto":
            return self.spec.workers
        if wanted.gpus:
            return max(1, int(len(accelerators()) / wanted.gpus))
        room = min(processors() // wanted.cpus, self._bases_that_fit() if with_model else 1 << 30)
        return max(1, min(room, 1 + items // pays if items >= pays else 1))

    def on_accelerators(self, stage: str) -> bool:
        """Whether the workers of a stage have accelerators."""
        return self._demand(stage, True).gpus > 0

    def carry_out(
        self,
        chunks: list[Chunk],
        work: Work,
        give_up: GiveUp,
        progress: Progress,
        size: int,
        with_model: bool = True,
    ) -> Counter[str]:
        """Have the chunks of one stage done by `size` workers; see `dispatch`."""

        def record(chunk: Chunk, fault: Fault) -> None:
            self.failures.append(give_up(self.context, chunk, fault))

        counts: Counter[str] = Counter()
        elsewhere = [c for c in chunks if not c.here]
        if elsewhere:
            pool = self._pool_for(elsewhere[0].stage, size, with_model)
            counts += dispatch(pool, elsewhere, work, record, progress)
        if here := [c for c in chunks if c.here]:
            counts += dispatch(self._here(), here, work, record, progress)
        return counts

    def close(self) -> None:
        """End all workers; the connection to a cluster stays."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._pool_of = None

    def leave(self) -> None:
        """End all workers and the connection to the cluster."""
        self.close()
        if self._cluster is not None:
            self._cluster.leave()
            self._cluster = None

    def _demand(self, stage: str, with_model: bool) -> Demand:
        has_gpus = self.cluster.has_accelerators if self.spec.name == "ray" else bool(accelerators())
        on_gpu = has_gpus and (self.device == "auto" or self.device.startswith("cuda"))
        return demand(self.spec, stage, with_model, on_gpu, self.base_bytes())

    def _pool_for(self, stage: str, size: int, with_model: bool) -> Pool:
        wanted = self._demand(stage, with_model)
        if self.spec.name == "local" and size == 1 and (self.spec.workers in (1, "auto")):
            self.close()
            return self._here()
        if self._pool is None or self._pool_of != (wanted, size):
            self.close()
            job = self.job(min(threads(self.spec, self.base_bytes()), wanted.cpus))
            if self.spec.name == "ray":
                self._pool = self.cluster.actors(job, wanted, size)
            else:
                from unharm.executors.processes import Processes

                self._pool = Processes(job, size, dealt(accelerators(), wanted.gpus))
            self._pool_of = wanted, size
        return self._pool

    def _here(self) -> Pool:
        return Here(lambda chunk, work, progress: do(self.context, chunk, work, progress))

    def _bases_that_fit(self) -> int:
        """How many copies of the base fit into half of the free memory, at twice the size of its files."""
        import psutil

        return max(1, int(psutil.virtual_memory().available / 2 / max(1, 2 * self.base_bytes())))


def dealt(accelerators: list[str], each: float) -> list[str]:
    """What each worker sees of the accelerators: `each` of them, or one that it shares with others."""
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
    if seen is not None and torch.cuda.is_available():
        return seen
    return list(map(str, range(torch.cuda.device_count())))
