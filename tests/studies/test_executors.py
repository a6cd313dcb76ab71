"""A whole study leaves the same bytes from one process, two processes and two nodes of Ray, one of which may go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from support.clusters import Nodes, cluster
from support.commands import start
from support.executors_helpers import small
from unharm.core.errors import UserError
from unharm.runs import execute as execution
from unharm.runs.pipeline import run_study


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
        execution, "required_paths", lambda run, probe: [("data", str(gone)), ("the base", str(tiny_base))]
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
    assert "but 0.1 on the machine that starts the run" in told
    assert f"data is missing on this node: {gone}" in told
    assert "put it on a disk that all nodes share" in told
    assert "the base" not in told
    assert not (tmp_path / "run").exists()  # a run that is refused leaves nothing behind


def test_a_node_that_is_lost_for_good_holds_nothing_up(
    tiny_study: dict[str, Any], tmp_path: Path, nodes: Nodes
) -> None:
    """A node is taken away while it works and does not come back: the other one does all of it.

    The last test of this file, whose cluster has one node from here on.
    """
    data = tiny_study | {"executor": {"name": "ray", "address": nodes.address, "cpus": 1}}
    data |= {"arms": ["vanilla", "vim"], "benchmarks": {"hexphi": data["benchmarks"]["hexphi"]}}
    data["training"]["vim"]["epochs"] = 4
    data["training"] |= {"stack": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    command = start("run", str(tmp_path / "study.yaml"), "--json")
    until = time.monotonic() + 120
    while len(list((tmp_path / "run").glob("journal-*.jsonl"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    nodes.tell("remove")
    assert command.wait() in (0, 3), command.stderr
    assert json.loads(command.stdout)["failed_tasks"] == []
    completions = pl.read_parquet(tmp_path / "run" / "completions" / "**" / "*.parquet")
    assert completions["completion_id"].n_unique() == completions.height == 4 * 10
