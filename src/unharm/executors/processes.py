"""Several processes of this machine: one for each accelerator, or as many as its processors feed."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from unharm.core import interrupt
from unharm.core.progress import Progress
from unharm.executors.chunks import Chunk, Job, Outcome, Work, Worker

MOMENT = 0.5
"""Seconds between two looks at what the workers have done."""


class Processes:
    """Worker processes that are started when they are first needed, and again where one died."""

    def __init__(self, job: Job, size: int, accelerators: list[str]):
        self.size = size
        self._job, self._accelerators = job, accelerators
        self._places: list[tuple[subprocess.Popen[bytes], Connection] | None] = [None] * size
        self._going: dict[int, Chunk] = {}

    def give(self, chunk: Chunk, work: Work) -> None:
        place = next(n for n in range(self.size) if n not in self._going)
        self._going[place] = chunk
        worker = self._places[place]
        if worker is None or worker[0].poll() is not None:
            worker = self._started(place)
        try:
            worker[1].send((chunk, work))
        except OSError:  # it died while idle
            self._started(place)[1].send((chunk, work))

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        found = []
        lines = {worker[1]: n for n in self._going if (worker := self._places[n])}
        for line in wait(list(lines), MOMENT):
            assert isinstance(line, Connection)
            place = lines[line]
            try:
                message: Any = line.recv()
            except (EOFError, OSError):  # the worker died
                self._end(place)
                found.append((self._going.pop(place), Outcome("lost")))
                continue
            if isinstance(message, Outcome):
                found.append((self._going.pop(place), message))
            else:
                progress.add(message)
        return found

    def stop(self) -> None:
        for place in self._going:
            worker = self._places[place]
            if worker:
                worker[1].send(None)

    def close(self) -> None:
        for place in range(self.size):
            self._end(place)
        self._going.clear()

    def _started(self, place: int) -> tuple[subprocess.Popen[bytes], Connection]:
        """A new worker in a place; it sees its own accelerator alone, and ends with this process.

        It is a process of its own with nothing of this one's main script in it, which may be the user's.
        """
        self._end(place)
        mine, its = Pipe()
        environment = os.environ | self._job.environment
        if self._accelerators:
            environment["CUDA_VISIBLE_DEVICES"] = self._accelerators[place % len(self._accelerators)]
        process = subprocess.Popen(
            [sys.executable, "-m", "unharm.executors.processes", str(its.fileno())],
            pass_fds=[its.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        its.close()
        mine.send(self._job)
        self._places[place] = process, mine
        return process, mine

    def _end(self, place: int) -> None:
        worker, self._places[place] = self._places[place], None
        if worker:
            worker[0].kill()
            worker[0].wait()
            worker[1].close()


def serve(line: Connection) -> None:
    """The life of a worker process: its job and then chunks come in, outcomes go out; it ends when the line
    does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leading process passes it on
    worker, chunks, guard = Worker(line.recv()), queue.Queue[tuple[Chunk, Work]](), threading.Lock()

    def listen() -> None:
        while True:
            try:
                message = line.recv()
            except (EOFError, OSError):
                os._exit(0)  # the leading process has ended
            if message is None:
                interrupt.ask()
            else:
                chunks.put(message)

    def tell() -> None:
        pause = threading.Event()
        while not pause.wait(2 * MOMENT):
            send(worker.tally.take())

    def send(message: Any) -> None:
        with guard:
            line.send(message)

    for task in (listen, tell):
        threading.Thread(target=task, daemon=True).start()
    while True:
        outcome = worker.do(*chunks.get())
        send(worker.tally.take())
        send(outcome)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
