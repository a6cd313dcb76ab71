"""Tests of `unharm.executors.processes`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from support.commands import start
from support.executors_helpers import dry_run
from unharm.core.pace import Dry
from unharm.core.progress import Progress, Tally
from unharm.executors.chunks import Chunk
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


def test_a_worker_that_dies_is_replaced_and_ends_with_its_leader(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    run = dry_run(tmp_path / "run", Dry(engine_rate=20.0), load, tiny_study)
    (tmp_path / "run").mkdir()
    pool = Processes(run.workers.job(1), 2, [])
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
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert len(gone) == 2
    assert not alive
