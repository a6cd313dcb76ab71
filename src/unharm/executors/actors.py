"""The workers of a Ray cluster: actors that do chunk after chunk."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from unharm.executors.chunks import Chunk, Job, Outcome, Worker
from unharm.executors.settings import Demand
from unharm.progress import Progress, say

MOMENT = 1.0
"""Seconds to wait for a worker before the others are looked at."""
TOLD_EVERY = 5.0
"""Seconds between two questions to busy workers how far they are."""
PATIENCE = 60.0
"""Seconds between two words about workers that wait for room."""


class Actors:
    """Workers on a cluster; one that is lost is started again where there is room, its chunk given
    again."""

    def __init__(self, ray: Any, job: Job, wanted: Demand, size: int):
        self.size = size
        self._ray, self._job, self._wanted = ray, job, wanted
        self._make = ray.remote(
            num_cpus=wanted.cpus,
            num_gpus=wanted.gpus,
            memory=int(wanted.memory * 2**30) if wanted.memory else None,
            max_concurrency=2,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(job.threads)}},
        )(Worker)
        self._idle: list[Any] = []
        self._going: dict[Any, tuple[Any, Chunk]] = {}
        self._told: dict[Any, Any] = {}
        self._heard = self._warned = time.monotonic()

    def give(self, chunk: Chunk) -> None:
        worker = self._idle.pop() if self._idle else self._make.remote(self._job)
        self._going[worker.do.remote(chunk)] = worker, chunk

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        ready, _ = self._ray.wait(list(self._going), num_returns=1, timeout=MOMENT)
        found = []
        for answer in ready:
            worker, chunk = self._going.pop(answer)
            try:
                outcome = self._ray.get(answer)
                progress.add(self._ray.get(worker.take.remote()))
                self._idle.append(worker)
            except self._ray.exceptions.RayError as error:
                say(f"a worker was lost ({type(error).__name__}); its work is given to another")
                self._end(worker)
                outcome = Outcome("lost" if "worker process has died" in str(error) else "gone")
            found.append((chunk, outcome))
        self._hear(progress)
        return found

    def _hear(self, progress: Progress) -> None:
        """Asks workers that are busy what they have done; says where they wait for room."""
        now = time.monotonic()
        if now - self._heard < TOLD_EVERY:
            return
        self._heard = now
        for worker, _ in self._going.values():
            if worker not in self._told:
                self._told[worker] = worker.take.remote()
        answered, silent = (
            self._ray.wait(list(self._told.values()), num_returns=len(self._told), timeout=0.1)
            if self._told
            else ([], [])
        )
        for worker, answer in list(self._told.items()):
            if answer in answered:
                del self._told[worker]
                with contextlib.suppress(self._ray.exceptions.RayError):  # its chunk tells of it
                    progress.add(self._ray.get(answer))
        if silent and len(silent) == len(self._going) and now - self._warned > PATIENCE:
            self._warned = now
            say(f"waiting for the cluster: {len(silent)} workers with {self._wanted.cpus} CPUs and "
                f"{self._wanted.gpus:g} GPUs each do not answer yet")  # fmt: skip

    def stop(self) -> None:
        for worker, _ in self._going.values():
            worker.stop.remote()

    def close(self) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._going.values())]:
            self._end(worker)
        self._idle.clear()
        self._going.clear()

    def _end(self, worker: Any) -> None:
        self._told.pop(worker, None)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)
