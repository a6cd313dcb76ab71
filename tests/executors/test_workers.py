"""How many workers a stage gets, and which accelerators each of them sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.executors_helpers import small
from unharm.core.errors import UserError
from unharm.core.progress import Progress
from unharm.executors import chunks, workers
from unharm.executors.chunks import Chunk, Fault, Job, Outcome, run_chunk
from unharm.executors.dispatch import InProcess
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.plan import Plan
from unharm.store.store import Store


class Closed:
    """A pool that ends every chunk at once."""

    size = 1

    def __init__(self) -> None:
        self.given: list[Chunk] = []

    def give(self, chunk: Chunk, work: Any) -> None:
        self.given.append(chunk)

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        ended, self.given = self.given, []
        return [(chunk, Outcome("done")) for chunk in ended]

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def no_work(context: Any, chunk: Chunk, meter: Any) -> dict[str, int]:
    raise AssertionError("a pool of the test runs nothing")


def no_report(context: Any, chunk: Chunk, fault: Fault) -> str:
    raise AssertionError("nothing is given up")


def test_processes_are_started_where_they_pay(
    tiny_study: dict[str, Any], load: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 16)
    monkeypatch.setattr(workers, "accelerators", list)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run = Run(load(tiny_study), Store(Path("x")), Plan(load(tiny_study)))
    assert run.workers.size("completions", 100, 20_000) == 1
    assert run.workers.size("completions", 1_000_000, 20_000) == 8
    assert run.workers.size("scores", 10**7, 100_000, with_model=False) == 16
    monkeypatch.setattr(workers, "accelerators", lambda: ["0", "1", "2"])
    assert run.workers.size("adapters", 1, 16) == 3


def test_accelerators_are_dealt_to_workers() -> None:
    assert workers.group_accelerators(["0", "1", "2"], 1) == ["0", "1", "2"]
    assert workers.group_accelerators(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert workers.group_accelerators(["3"], 0.5) == ["3"]  # two workers share it
    assert workers.group_accelerators(["0"], 0) == []


@pytest.mark.parametrize("workers_wanted", ["auto", 1, 2])
def test_a_numbered_device_is_the_only_one_that_its_workers_see(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers_wanted: Any
) -> None:
    monkeypatch.setattr(workers, "accelerators", lambda: ["4", "6", "7"])
    study = small(
        tiny_base, tmp_path / "run", engine={"device": "cuda:1"}, executor={"workers": workers_wanted}
    )
    run = Run(study, Store(tmp_path / "run"), Plan(study))
    size = run.workers.size("completions", 10**6, 1)
    assert size == (2 if workers_wanted == 2 else 1)
    pools: list[tuple[Job, int, list[str]]] = []
    monkeypatch.setattr(workers, "Processes", lambda *given: pools.append(given) or Closed())
    run.workers.run_chunks(
        [Chunk("completions", "hf", ())], no_work, no_report, Progress("t", 0, "x"), size
    )
    (job, started, seen), *others = pools
    assert (started, seen, others) == (size, ["6"], [])
    assert job.arguments[0]["engine"]["device"] == "cuda"  # its name where it is the only one


def test_a_device_that_is_not_there_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "accelerators", lambda: ["0", "1"])
    study = small(tiny_base, tmp_path / "run", engine={"device": "cuda:2"})
    with pytest.raises(UserError, match="this machine has no cuda:2: its accelerators are cuda:0, cuda:1"):
        Run(study, Store(tmp_path / "run"), Plan(study)).workers.check(["adapters"], [])


@pytest.mark.parametrize(
    ("wanted", "found", "in_process"), [("auto", [], True), ("auto", ["0"], False), (1, ["0"], True)]
)
def test_one_worker_with_an_accelerator_is_a_process_of_its_own(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any, found: list[str],
    in_process: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(workers, "accelerators", lambda: found)
    study = small(tiny_base, tmp_path / "run", executor={"workers": wanted})
    run = Run(study, Store(tmp_path / "run"), Plan(study))
    started: list[int] = []
    monkeypatch.setattr(workers, "Processes", lambda job, size, seen: started.append(size) or Closed())
    done: list[str] = []
    monkeypatch.setattr(workers, "run_chunk", lambda *_: done.append("here") or Outcome("done"))
    run.workers.run_chunks([Chunk("completions", "hf", ())], no_work, no_report, Progress("t", 0, "x"), 1)
    assert (started, done) == (([], ["here"]) if in_process else ([1], []))


def test_a_dead_accelerator_of_this_process_ends_the_stage_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "accelerator_dead", lambda: True)

    def broken(context: Any, chunk: Chunk, meter: Any) -> dict[str, int]:
        raise UserError("the hf engine cannot run these models")  # what a dead context looks like inside

    pool = InProcess(lambda chunk, work, progress: run_chunk(None, chunk, work, progress))
    pool.give(Chunk("completions", "hf", ((0, "a"),)), broken)
    with pytest.raises(UserError, match="the accelerator failed") as caught:
        pool.wait(Progress("t", 0, "x"))
    assert "the same command resumes" in str(caught.value)


def test_a_task_that_asks_for_more_than_there_is_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "accelerators", list)
    with pytest.raises(UserError, match="one task asks for 2 gpus, this machine has 0"):
        run_study(small(tiny_base, tmp_path / "run", executor={"gpus": 2}))
    assert not (tmp_path / "run").exists()
