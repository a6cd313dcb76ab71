"""Worker processes on this machine: one per accelerator, or as many as the processors allow."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from unharm.core import interrupt
from unharm.core.progress import Progress, say
from unharm.executors.chunks import Chunk, Job, Outcome, Work, Worker

POLL_SECONDS = 0.5
"""Seconds between two checks of the workers."""
HAS_SESSIONS = hasattr(os, "killpg")
"""Whether a process and those that it starts form a group that can be ended as one."""


class Processes:
    """A pool of worker processes. Each is started on its first chunk and restarted after it died."""

    def __init__(self, job: Job, size: int, accelerators: list[str]):
        self.size = size
        self._job, self._accelerators = job, accelerators
        self._places: list[tuple[subprocess.Popen[bytes], Connection] | None] = [None] * size
        self._running: dict[int, Chunk] = {}

    def give(self, chunk: Chunk, work: Work) -> None:
        place = next(n for n in range(self.size) if n not in self._running)
        self._running[place] = chunk
        worker = self._places[place]
        if worker is None or worker[0].poll() is not None:
            worker = self._start(place)
        try:
            worker[1].send((chunk, work))
        except OSError:  # it died while idle
            self._start(place)[1].send((chunk, work))

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        ended = []
        pipes = {worker[1]: n for n in self._running if (worker := self._places[n])}
        for pipe in wait(list(pipes), POLL_SECONDS):
            assert isinstance(pipe, Connection)
            place = pipes[pipe]
            try:
                message: Any = pipe.recv()
            except (EOFError, OSError):  # the worker died
                self._end(place)
                ended.append((self._running.pop(place), Outcome("worker_died")))
                continue
            if isinstance(message, Outcome):
                ended.append((self._running.pop(place), message))
                if message.dead:
                    summary = message.fault.summary if message.fault else "unknown"
                    say(f"the accelerator of a worker failed ({summary}); another worker takes its place")
                    self._end(place)
            else:
                progress.add(message)
        return ended

    def stop(self) -> None:
        for place in self._running:
            worker = self._places[place]
            if worker:
                worker[1].send(None)

    def close(self) -> None:
        for place in range(self.size):
            self._end(place)
        self._running.clear()

    def _start(self, place: int) -> tuple[subprocess.Popen[bytes], Connection]:
        """Start a worker that sees only its own accelerator and ends with this process."""
        self._end(place)
        parent_end, worker_end = Pipe()
        environment = os.environ | self._job.environment
        if self._accelerators:
            environment["CUDA_VISIBLE_DEVICES"] = self._accelerators[place % len(self._accelerators)]
        process = start_process(worker_end, environment)
        worker_end.close()
        parent_end.send(self._job)
        self._places[place] = process, parent_end
        return process, parent_end

    def _end(self, place: int) -> None:
        """Kill the worker at a place, if there is one, and every process that it started."""
        worker, self._places[place] = self._places[place], None
        if worker:
            kill_children(worker[0].pid)
            worker[0].kill()
            if HAS_SESSIONS:  # also what a worker that died before has left behind
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(worker[0].pid, signal.SIGKILL)
            worker[0].wait()
            worker[1].close()


def start_process(pipe: Connection, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that serves a pipe, in a session of its own.

    It is a new Python process, not a fork: the main script of this process may be the user's own and
    must not run again.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "unharm.executors.processes", str(pipe.fileno())],
        pass_fds=[pipe.fileno()],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=HAS_SESSIONS,
    )


def kill_children(pid: int) -> None:
    """Kill every process below a process, such as the one that vLLM computes in."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()


def serve(pipe: Connection) -> None:
    """Run a worker process: receive its job and then chunks, send progress and outcomes.

    The process ends when the connection closes.
    """
    for number in interrupt.SIGNALS:  # the leading process forwards them
        signal.signal(number, signal.SIG_IGN)
    worker, chunks, guard = Worker(pipe.recv()), queue.Queue[tuple[Chunk, Work]](), threading.Lock()

    def listen() -> None:
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                kill_children(os.getpid())
                os._exit(0)  # the leading process has ended
            if message is None:
                interrupt.request_stop()
            else:
                chunks.put(message)

    def report() -> None:
        pause = threading.Event()
        while not pause.wait(2 * POLL_SECONDS):
            send(worker.tally.take())

    def send(message: Any) -> None:
        with guard:
            pipe.send(message)

    for task in (listen, report):
        threading.Thread(target=task, daemon=True).start()
    while True:
        outcome = worker.run_chunk(*chunks.get())
        send(worker.tally.take())
        send(outcome)


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
