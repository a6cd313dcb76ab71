"""Workers on a Ray cluster: actors that run one chunk after another."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from unharm.core.errors import UserError
from unharm.core.progress import Progress, say
from unharm.executors.chunks import Chunk, Job, Outcome, Work, Worker
from unharm.executors.settings import Demand

POLL_SECONDS = 1.0
"""Seconds between two checks of the workers."""
PROGRESS_SECONDS = 5.0
"""Seconds between two progress requests to busy workers."""
WARNING_SECONDS = 60.0
"""Seconds between two messages about workers that wait for free resources."""
MAX_START_FAILURES = 5
"""Give up after this many workers in a row died before they answered."""


class Actors:
    """A pool of actors. A lost actor is replaced by a new one.

    Chunks go only to actors that have answered, so an actor that waits for free resources, for example on
    a lost node, holds nothing up.
    """

    def __init__(self, ray: Any, job: Job, wanted: Demand, max_workers: int):
        self._ray, self._job, self._wanted, self._max_workers = ray, job, wanted, max_workers
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
        self._running: dict[Any, tuple[Any, Chunk]] = {}
        self._asked: dict[Any, Any] = {}
        self._deaths = 0
        self._last_request = self._last_warning = time.monotonic()
        self._fill()

    @property
    def size(self) -> int:
        """The number of workers that have answered."""
        return len(self._idle) + len(self._running)

    def give(self, chunk: Chunk, work: Work) -> None:
        worker = self._idle.pop()
        self._running[worker.run_chunk.remote(chunk, work)] = worker, chunk

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        ready, _ = self._ray.wait([*self._running, *self._starting], num_returns=1, timeout=POLL_SECONDS)
        ended = []
        for answer in ready:
            if answer in self._starting:
                self._started(answer)
            else:
                ended.append(self._done(answer, progress))
        self._fill()
        self._request_progress(progress)
        return ended

    def _fill(self) -> None:
        """Start actors up to the wanted number. Each answers when it has got its resources."""
        while self.size + len(self._starting) < self._max_workers:
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
            if self._deaths >= MAX_START_FAILURES:
                message = f"no worker can be started on the cluster: {type(error).__name__}"
                raise UserError(message, "executor", "see 'ray status' and the logs of Ray") from error

    def _done(self, answer: Any, progress: Progress) -> tuple[Chunk, Outcome]:
        worker, chunk = self._running.pop(answer)
        try:
            outcome = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            say(f"a worker was lost ({type(error).__name__}); another one takes its chunk")
            self._end(worker)
            return chunk, Outcome("worker_died" if "worker process has died" in str(error) else "node_lost")
        if outcome.dead:
            say("the accelerator of a worker failed; another worker takes its place")
            self._end(worker)
            return chunk, outcome
        self._idle.append(worker)
        with contextlib.suppress(self._ray.exceptions.RayError):  # reported with its next chunk
            progress.add(self._ray.get(worker.take.remote()))
        return chunk, outcome

    def _request_progress(self, progress: Progress) -> None:
        """Request the progress of busy workers. Report when every worker waits for resources."""
        now = time.monotonic()
        if now - self._last_request < PROGRESS_SECONDS:
            return
        self._last_request = now
        for worker, _ in self._running.values():
            if worker not in self._asked:
                self._asked[worker] = worker.take.remote()
        answers = list(self._asked.values())
        answered = self._ray.wait(answers, num_returns=len(answers), timeout=0.1)[0] if answers else []
        for worker, answer in list(self._asked.items()):
            if answer in answered:
                del self._asked[worker]
                with contextlib.suppress(self._ray.exceptions.RayError):  # reported with its chunk
                    progress.add(self._ray.get(answer))
        if not self.size and now - self._last_warning > WARNING_SECONDS:
            self._last_warning = now
            say(
                f"waiting for the cluster: {len(self._starting)} workers with {self._wanted.cpus} CPUs and "
                f"{self._wanted.gpus:g} GPUs each wait for free resources"
            )

    def stop(self) -> None:
        for worker, _ in self._running.values():
            worker.stop.remote()

    def close(self) -> None:
        """End all workers, including those that wait for resources."""
        busy = [worker for worker, _ in self._running.values()]
        for worker in [*self._idle, *self._starting.values(), *busy]:
            self._end(worker)
        self._idle.clear()
        self._starting.clear()
        self._running.clear()

    def _end(self, worker: Any) -> None:
        self._asked.pop(worker, None)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)
