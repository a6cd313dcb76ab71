"""The workers of a Ray cluster: actors that do chunk after chunk."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from unharm.core.errors import UserError
from unharm.core.progress import Progress, say
from unharm.executors.chunks import Chunk, Job, Outcome, Work, Worker
from unharm.executors.settings import Demand

MOMENT = 1.0
"""Seconds to wait for a worker before the others are looked at."""
TOLD_EVERY = 5.0
"""Seconds between two questions to busy workers how far they are."""
PATIENCE = 60.0
"""Seconds between two words about workers that wait for room."""
STARTS = 5
"""So many workers in a row that die before they have answered mean that none can be started."""


class Actors:
    """Workers on a cluster. A chunk is given to one that has answered, never to one that still waits for
    room: a node that is lost and does not come back holds nothing up. One that is lost is started again."""

    def __init__(self, ray: Any, job: Job, wanted: Demand, most: int):
        self._ray, self._job, self._wanted, self._most = ray, job, wanted, most
        self._make = ray.remote(
            num_cpus=wanted.cpus,
            num_gpus=wanted.gpus,
            memory=int(wanted.memory * 2**30) if wanted.memory else None,
            max_concurrency=2,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": job.environment},
        )(Worker)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._going: dict[Any, tuple[Any, Chunk]] = {}
        self._asked: dict[Any, Any] = {}
        self._deaths = 0
        self._heard = self._warned = time.monotonic()
        self._fill()

    @property
    def size(self) -> int:
        """The workers that have answered."""
        return len(self._idle) + len(self._going)

    def give(self, chunk: Chunk, work: Work) -> None:
        worker = self._idle.pop()
        self._going[worker.do.remote(chunk, work)] = worker, chunk

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        ready, _ = self._ray.wait([*self._going, *self._starting], num_returns=1, timeout=MOMENT)
        found = []
        for answer in ready:
            if answer in self._starting:
                self._started(answer)
            else:
                found.append(self._done(answer, progress))
        self._fill()
        self._hear(progress)
        return found

    def _fill(self) -> None:
        """Starts workers until there are as many as wanted; each answers when it has found room."""
        while self.size + len(self._starting) < self._most:
            worker = self._make.remote(self._job)
            self._starting[worker.take.remote()] = worker

    def _started(self, answer: Any) -> None:
        worker = self._starting.pop(answer)
        try:
            self._ray.get(answer)
            self._idle.append(worker)
            self._deaths = 0
        except self._ray.exceptions.RayError as error:
            self._end(worker)
            self._deaths += 1
            if self._deaths >= STARTS:
                what = f"no worker can be started on the cluster: {type(error).__name__}"
                raise UserError(what, "executor", "look at it with 'ray status' and in its logs") from error

    def _done(self, answer: Any, progress: Progress) -> tuple[Chunk, Outcome]:
        worker, chunk = self._going.pop(answer)
        try:
            outcome = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            say(f"a worker was lost ({type(error).__name__}); its work is given to another")
            self._end(worker)
            return chunk, Outcome("lost" if "worker process has died" in str(error) else "gone")
        self._idle.append(worker)
        with contextlib.suppress(self._ray.exceptions.RayError):  # its next chunk will tell
            progress.add(self._ray.get(worker.take.remote()))
        return chunk, outcome

    def _hear(self, progress: Progress) -> None:
        """Asks busy workers what they have done; says where all wait for room."""
        now = time.monotonic()
        if now - self._heard < TOLD_EVERY:
            return
        self._heard = now
        for worker, _ in self._going.values():
            if worker not in self._asked:
                self._asked[worker] = worker.take.remote()
        answers = list(self._asked.values())
        answered = self._ray.wait(answers, num_returns=len(answers), timeout=0.1)[0] if answers else []
        for worker, answer in list(self._asked.items()):
            if answer in answered:
                del self._asked[worker]
                with contextlib.suppress(self._ray.exceptions.RayError):  # its chunk tells of it
                    progress.add(self._ray.get(answer))
        if not self.size and now - self._warned > PATIENCE:
            self._warned = now
            say(
                f"waiting for the cluster: {len(self._starting)} workers with {self._wanted.cpus} CPUs and "
                f"{self._wanted.gpus:g} GPUs each find no room"
            )

    def stop(self) -> None:
        for worker, _ in self._going.values():
            worker.stop.remote()

    def close(self) -> None:
        """Ends all workers, those that wait for room too."""
        busy = [worker for worker, _ in self._going.values()]
        for worker in [*self._idle, *self._starting.values(), *busy]:
            self._end(worker)
        self._idle.clear()
        self._starting.clear()
        self._going.clear()

    def _end(self, worker: Any) -> None:
        self._asked.pop(worker, None)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)
