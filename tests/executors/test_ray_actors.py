"""Tests of `unharm.executors.ray_actors`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.clusters import cluster


def test_a_node_that_is_lost_for_good_holds_nothing_up(tiny_study: dict[str, Any], tmp_path: Path) -> None:
    """A node is taken away while it works and does not come back: the other one does all of it."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'unharm[ray]'")
    import polars as pl

    with cluster(2, 1) as own:
        data = tiny_study | {"executor": {"name": "ray", "address": own.address, "cpus": 1}}
        data |= {"arms": ["vanilla", "vim"], "benchmarks": {"hexphi": data["benchmarks"]["hexphi"]}}
        data["training"]["vim"]["epochs"] = 4
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
    assert completions["completion_id"].n_unique() == completions.height == 4 * 10
