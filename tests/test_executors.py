"""Where the work is done: the policy for faults, processes, a Ray cluster, the same bytes from all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from support.clusters import Nodes, cluster
from support.studies import study_data
from unharm.core import interrupt
from unharm.core.errors import Problem, UserError
from unharm.core.files.yaml_text import SpecText
from unharm.core.pace import Dry
from unharm.core.progress import Progress, Tally
from unharm.executors import settings, workers
from unharm.executors.chunks import Chunk, Fault, Meter, Outcome, Work
from unharm.executors.dispatch import HOPELESS, LOSSES, dispatch
from unharm.executors.processes import Processes
from unharm.executors.settings import Asked, ExecutorSpec, demand, threads
from unharm.run import execute as execution
from unharm.run.base import Base
from unharm.run.context import Run
from unharm.run.pipeline import run_study
from unharm.run.plan import Plan
from unharm.run.shards import all_shards, item_of, shard_of
from unharm.run.stages.completions import complete_chunk
from unharm.store.store import Store
from unharm.study.check import parse_study


class Scripted:
    """A pool that does at once what its script says of each piece: bad ones break their chunk, deadly ones kill the
    worker; counts how often each piece was done."""

    def __init__(self, bad: set[str] = frozenset(), deadly: set[str] = frozenset(), size: int = 2):  # type: ignore[assignment]
        self.bad, self.deadly, self.size = bad, deadly, size
        self.done: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self._given: deque[Chunk] = deque()
        self.stopped = 0

    def give(self, chunk: Chunk, work: Work) -> None:
        assert len(self._given) < self.size
        self._given.append(chunk)

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        chunk = self._given.popleft()
        names = {name for _, name in chunk.items}
        self.begun.update(names)
        if names & self.deadly:
            return [(chunk, Outcome("lost"))]
        if names & self.bad:
            return [(chunk, Outcome("broken", fault=Fault("ValueError at x.py:1", "secret")))]
        self.done.update(names)
        progress.tick(len(names))
        return [(chunk, Outcome("done", {"items": len(names)}))]

    def stop(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        pass


def chunks_of(count: int, size: int) -> list[Chunk]:
    items = [(0, str(n)) for n in range(count)]
    return [Chunk("scores", "x", tuple(items[i : i + size])) for i in range(0, count, size)]


def no_work(context: Any, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """What the scripted pool is handed and never calls."""
    raise AssertionError


def carried(pool: Scripted, chunks: list[Chunk]) -> tuple[dict[str, int], list[str]]:
    given_up: list[str] = []
    counts = dispatch(
        pool,
        chunks,
        no_work,
        lambda chunk, fault: given_up.append(chunk.items[0][1]),
        Progress("t", 0, "items"),
    )
    return counts, given_up


@given(
    st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.sets(st.integers(0, 39), max_size=5),
    st.sets(st.integers(0, 39), max_size=3),
)  # fmt: skip
def test_what_fails_is_alone_in_the_end_and_everything_else_is_done_once(
    count: int, size: int, workers: int, bad: set[int], deadly: set[int]
) -> None:
    failing = {str(n) for n in (bad | deadly) if n < count}
    pool = Scripted({str(n) for n in bad}, {str(n) for n in deadly}, workers)
    assume(len(failing) < count or count < HOPELESS)  # else nothing succeeds: another test
    counts, given_up = carried(pool, chunks_of(count, size))
    assert sorted(given_up) == sorted(failing)
    assert pool.done == Counter(str(n) for n in range(count) if str(n) not in failing)
    assert counts.get("items", 0) == count - len(failing)


def test_a_chunk_whose_worker_dies_is_given_again_before_it_is_cut() -> None:
    pool = Scripted(deadly={"0"})
    _, given_up = carried(pool, chunks_of(2, 2))
    assert given_up == ["0"]
    assert pool.begun["1"] == LOSSES + 1  # with the other one, then alone
    assert pool.done["1"] == 1


def test_where_nothing_succeeds_the_error_itself_is_raised() -> None:
    everything = {str(n) for n in range(50)}
    with pytest.raises(RuntimeError, match="nothing of t succeeds") as error:
        carried(Scripted(everything), chunks_of(50, 10))
    assert "secret" in str(error.value)  # a traceback of ours, not a message for users


def test_a_users_mistake_stops_the_rest_and_is_told_whole() -> None:
    class Wrong(Scripted):
        def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
            found = super().wait(progress)
            where = f"disk {found[0][0].items[0][1]}"
            return [(found[0][0], Outcome("wrong", problems=[Problem("the disk is full", where)]))]

    pool = Wrong(size=2)
    with pytest.raises(UserError) as error:
        carried(pool, chunks_of(8, 1))
    assert [p.where for p in error.value.problems] == ["disk 0", "disk 1"]  # what was on its way is heard
    assert pool.stopped == 1


def test_a_run_that_is_asked_to_stop_begins_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Scripted(size=1)
    monkeypatch.setattr(interrupt, "asked", lambda: pool.done.total() >= 2)
    with pytest.raises(interrupt.Stopped):
        carried(pool, chunks_of(6, 1))
    assert pool.done.total() == 2
    assert pool.stopped == 1


def test_what_a_task_asks_for() -> None:
    spec = ExecutorSpec(cpus=4, stages={"scores": Asked(gpus=0.5)})
    with_gpus = {s: demand(spec, s, True, True, 0) for s in ("adapters", "scores")}
    assert (with_gpus["adapters"].gpus, with_gpus["scores"].gpus) == (1.0, 0.5)
    assert demand(spec, "scores", False, True, 0).gpus == 0
    assert demand(spec, "scores", False, True, 0).cpus == 1  # nothing of torch in it


def test_threads_are_those_of_the_study_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads(ExecutorSpec(cpus=3), 0) == 3
    assert threads(ExecutorSpec(), 10**8) == 2
    monkeypatch.setattr(settings, "processors", lambda: 48)
    assert threads(ExecutorSpec(), 10**10) == 48  # such a base is worth all of them
    assert threads(ExecutorSpec(name="ray"), 10**10) == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads(ExecutorSpec(cpus=3), 0) == 5


def test_processes_are_started_where_they_pay(
    tiny_study: dict[str, Any], load: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 16)
    monkeypatch.setattr(workers, "accelerators", list)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run = Run(load(tiny_study), Store(Path("x")), Plan(load(tiny_study)))
    assert run.workers.size("completions", 100) == 1
    assert run.workers.size("completions", 1_000_000) == 8
    assert run.workers.size("scores", 10**7, with_model=False) == 16
    monkeypatch.setattr(workers, "accelerators", lambda: ["0", "1", "2"])
    assert run.workers.size("adapters", 1) == 3


def test_accelerators_are_dealt_to_workers() -> None:
    assert workers.dealt(["0", "1", "2"], 1) == ["0", "1", "2"]
    assert workers.dealt(["0", "1", "2", "3", "4"], 2) == ["0,1", "2,3"]
    assert workers.dealt(["3"], 0.5) == ["3"]  # two workers share it
    assert workers.dealt(["0"], 0) == []


def test_a_task_that_asks_for_more_than_there_is_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "accelerators", list)
    with pytest.raises(UserError, match="one task asks for 2 gpus, this machine has 0"):
        run_study(small(tiny_base, tmp_path / "run", executor={"gpus": 2}))
    assert not (tmp_path / "run").exists()


# ---- processes of this machine -----------------------------------------------------------


def small(base: Path, output: Path, **changes: Any) -> Any:
    data = study_data(base, output)
    data["benchmarks"]["hexphi"]["also"] = ["offline-harmfulness-topic"]
    data |= {"training": data["training"] | {"stack": 2}, **changes}
    return parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))


def bytes_of(root: Path) -> dict[str, bytes]:
    parts = ("adapters", "completions", "scores", "findings")
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for part in parts
        for file in sorted((root / part).rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def plain(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run in this process leaves."""
    root = tmp_path_factory.mktemp("plain") / "run"
    run_study(small(tiny_base, root))
    return bytes_of(root)


def test_two_processes_leave_the_same_bytes(
    plain: dict[str, bytes], tiny_base: Path, tmp_path: Path
) -> None:
    run = run_study(small(tiny_base, tmp_path / "run", executor={"workers": 2}))
    assert bytes_of(tmp_path / "run") == plain
    journals = list((tmp_path / "run").glob("journal-*.jsonl"))
    assert len(journals) >= 2  # each worker has written its own
    assert not run.workers.failures


def dry_run(output: Path, dry: Dry, load: Any, base: dict[str, Any], *changes: str) -> Run:
    study = load(base, f"output={output}", "arms=[vanilla, icl]", "executor.workers=2", *changes)
    return Run(study, Store(output), Plan(study), dry=dry)


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
    command = [sys.executable, "-m", "unharm", "run", str(spec)]
    leader = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    started: list[psutil.Process] = []
    until = time.monotonic() + 60
    while len(started) < 2 and time.monotonic() < until and leader.poll() is None:
        started = workers_of(leader.pid)
        time.sleep(0.05)
    leader.kill()
    leader.wait()
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert len(gone) == 2
    assert not alive


def test_a_worker_that_sees_other_inputs_says_so(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    run = dry_run(tmp_path / "run", Dry(), load, tiny_study)
    with pytest.raises(UserError, match="sees other inputs"):
        shard_of(run, (0, "completions/of-another-key.parquet"))


# ---- a Ray cluster -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'unharm[ray]'")
    with cluster(2, 1) as made:
        yield made


def test_two_nodes_of_ray_leave_the_same_bytes(
    plain: dict[str, bytes], tiny_base: Path, tmp_path: Path, nodes: Nodes
) -> None:
    spec = {"name": "ray", "address": nodes.address, "cpus": 1}
    run = run_study(small(tiny_base, tmp_path / "run", executor=spec))
    assert bytes_of(tmp_path / "run") == plain
    assert not run.workers.failures
    assert not (tmp_path / "run" / "status.json").read_text().count('"running"')


def test_nodes_are_looked_over_before_any_work(
    tiny_base: Path, tmp_path: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, other = metadata.version, {"torch": "0.1", "peft": "0.1"}
    monkeypatch.setattr(metadata, "version", lambda name: other.get(name) or version(name))
    gone = tmp_path / "only here"
    monkeypatch.setattr(
        execution, "paths_of", lambda run, probe: [("data", str(gone)), ("the base", str(tiny_base))]
    )
    study = small(
        tiny_base,
        tmp_path / "run",
        executor={"name": "ray", "address": nodes.address, "gpus": 2, "cpus": 1},
    )
    with pytest.raises(UserError) as error:
        run_study(study)
    told = str(error.value)
    assert "one task asks for 2 gpus, the largest node has 0" in told
    assert "torch" in told
    assert "but 0.1 where the run is started" in told
    assert f"data is not to be seen from there: {gone}" in told
    assert "put it on a disk that all nodes share" in told
    assert "the base" not in told
    assert not (tmp_path / "run").exists()  # a run that is refused leaves nothing behind


def test_no_cluster_at_the_address(tiny_base: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'unharm[ray]'")
    study = small(tiny_base, tmp_path / "run", executor={"name": "ray", "address": "127.0.0.1:1"})
    with pytest.raises(UserError, match=r"no Ray cluster at 127.0.0.1:1") as error:
        run_study(study)
    assert "ray start --head" in str(error.value)


def test_without_ray_the_command_that_installs_it(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unharm.executors import ray_cluster as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="Ray is not installed") as error:
        run_study(small(tiny_base, tmp_path / "run", executor={"name": "ray"}))
    assert "pip install 'unharm[ray]'" in str(error.value)


def test_a_node_that_is_lost_for_good_holds_nothing_up(tiny_study: dict[str, Any], tmp_path: Path) -> None:
    """A node is taken away while it works and does not come back: the other one does all of it."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'unharm[ray]'")
    import polars as pl

    with cluster(2, 1) as own:
        data = tiny_study | {"executor": {"name": "ray", "address": own.address, "cpus": 1}}
        data["training"] |= {"stack": 1}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
        command = [sys.executable, "-m", "unharm", "run", str(tmp_path / "study.yaml"), "--json"]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )
        until = time.monotonic() + 120
        while len(list((tmp_path / "run").glob("journal-*.jsonl"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        own.tell("remove")
        told, words = process.communicate(timeout=200)
    assert process.returncode in (0, 3), words
    assert json.loads(told)["failed_tasks"] == []
    completions = pl.read_parquet(tmp_path / "run" / "completions" / "**" / "*.parquet")
    assert completions["completion_id"].n_unique() == completions.height == 8 * (4 * 3 + 8 + 10 + 14 + 30)


def test_a_base_that_differs_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unharm.run import base

    study = small(tiny_base, tmp_path / "run")
    there = Base("b", tmp_path / "not here", "another key")
    with pytest.raises(UserError, match="another one than where the run was started"):
        base.same_base(there, study)
    here = base.resolve_base(study)
    assert base.same_base(here, study) == here


def test_a_job_holds_no_secret(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    served = {"server": {"url": "http://127.0.0.1:1/v1", "model": "m", "key": "MY_KEY"}}
    study = load(tiny_study | {"arms": ["served:server"], "served": served})
    assert "sk-secret" not in json.dumps(study.model_dump(mode="json"))
