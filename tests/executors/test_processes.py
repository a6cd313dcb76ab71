"""Tests of `unharm.executors.processes`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from support.commands import start
from support.executors_helpers import dry_run
from support.lone_workers import NoContext, fail_once_with_the_device, start_a_child
from unharm.core.pace import Dry
from unharm.core.progress import Progress, Tally
from unharm.executors.chunks import Chunk, Job
from unharm.executors.dispatch import dispatch
from unharm.executors.processes import Processes
from unharm.runs.shards import all_shards, item_of
from unharm.runs.stages.completions import complete_chunk


def workers_of(leader: int) -> list[psutil.Process]:
    """The worker processes that a process has started and that live."""
    return [
        process
        for process in psutil.Process(leader).children()
        if process.status() != psutil.STATUS_ZOMBIE and "unharm.executors.processes" in process.cmdline()
    ]


def the_worker_of(leader: int) -> psutil.Process:
    """The worker of a process, once it has begun: a fork shows the leader's command line at first."""
    until = time.monotonic() + 60
    while not (workers := workers_of(leader)):
        assert time.monotonic() < until
        time.sleep(0.01)
    return workers[0]


def test_a_worker_that_dies_is_replaced_and_ends_with_its_leader(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    run = dry_run(tmp_path / "run", Dry(engine_rate=20.0), load, tiny_study)
    (tmp_path / "run").mkdir()
    pool = Processes(run.workers.job(1, "cpu"), 1, [])
    shards = all_shards(run)
    chunks = [Chunk("completions", "hf", (item_of(run, s),)) for s in shards[:4]]
    killed: list[int] = []

    class Killing(Progress):
        def add(self, tally: Tally) -> None:
            super().add(tally)
            if not killed:
                first = workers_of(os.getpid())[0]
                killed.append(first.pid)
                first.kill()

    counts = dispatch(
        pool,
        chunks,
        complete_chunk,
        lambda *_: pytest.fail("nothing is given up"),
        Killing("t", 0, "completions"),
    )
    assert killed
    assert counts["shards"] == 4
    assert all(run.store.done(s.completions) for s in shards[:4])
    alive = workers_of(os.getpid())
    assert alive
    pool.close()
    assert not workers_of(os.getpid())


def test_workers_end_when_their_leader_is_killed(tiny_study: dict[str, Any], tmp_path: Path) -> None:
    spec = tmp_path / "study.yaml"
    spec.write_text(yaml.safe_dump(tiny_study | {"executor": {"workers": 2}}))
    leader = start("run", str(spec))
    started: list[psutil.Process] = []
    until = time.monotonic() + 180
    while len(started) < 2 and time.monotonic() < until and leader.poll() is None:
        started = workers_of(leader.pid)
        time.sleep(0.05)
    leader.kill()
    leader.wait()
    assert len(started) == 2
    assert all(ended(worker.pid, seconds=90) for worker in started)  # they may still be importing


def ended(pid: int, seconds: float = 20) -> bool:
    """Return whether a process ends within some seconds. Nobody may be there to reap it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def importing_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes import the work that these tests hand over."""
    found = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in found if part))


CHUNK = Chunk("scores", "x", ((0, "a"), (0, "b")))


def child_of(worker: psutil.Process, folder: Path) -> int:
    """Return the process that a worker has started, once it has noted its id."""
    while not (folder / "child").exists():
        assert worker.is_running()
        assert worker.status() != psutil.STATUS_ZOMBIE
        time.sleep(0.02)
    return int((folder / "child").read_text())


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_worker_that_ends_leaves_no_process_behind(
    importing_tests: None, tmp_path: Path, end: str
) -> None:
    pool = Processes(Job(NoContext, (str(tmp_path),), 1), 1, [])
    try:
        pool.give(CHUNK, start_a_child)
        worker = the_worker_of(os.getpid())
        child = child_of(worker, tmp_path)
        assert psutil.pid_exists(child)
        if end == "killed":
            worker.kill()
            while not (outcomes := pool.wait(Progress("t", 0, "x"))):
                pass
            assert outcomes[0][1].kind == "worker_died"
    finally:
        pool.close()
    assert ended(child)


def test_a_worker_whose_leader_is_gone_leaves_no_process_behind(
    importing_tests: None, tmp_path: Path
) -> None:
    ours, others = Pipe()
    command = [sys.executable, "-m", "unharm.executors.processes", str(others.fileno())]
    process = subprocess.Popen(command, pass_fds=[others.fileno()])
    others.close()
    ours.send(Job(NoContext, (str(tmp_path),), 1))
    ours.send((CHUNK, start_a_child))
    child = child_of(psutil.Process(process.pid), tmp_path)
    ours.close()
    assert process.wait(20) == 0
    assert ended(child)


def test_a_worker_whose_accelerator_fails_is_replaced(importing_tests: None, tmp_path: Path) -> None:
    """The first worker fails with a dead context; the next one does all that is left."""
    pool = Processes(Job(NoContext, (str(tmp_path),), 1), 1, [])
    try:
        counts = dispatch(
            pool,
            [CHUNK],
            fail_once_with_the_device,
            lambda *_: pytest.fail("nothing is given up"),
            Progress("t", 0, "x"),
        )
    finally:
        pool.close()
    assert counts["items"] == 2
    assert len({f.read_text() for f in tmp_path.glob("worker-*")}) == 2
