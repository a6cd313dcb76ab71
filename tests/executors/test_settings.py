"""Tests of `unharm.executors.settings`."""

from __future__ import annotations

from pathlib import Path

import pytest

from unharm.executors import settings
from unharm.executors.chunks import Job
from unharm.executors.settings import ExecutorSpec, StageResources, demand, threads


def test_what_a_task_asks_for() -> None:
    spec = ExecutorSpec(cpus=4, stages={"scores": StageResources(gpus=0.5)})
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


def test_a_quota_bounds_the_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(settings, "QUOTA", quota)
    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda _: set(range(48)), raising=False)
    for text, expected in (("max 100000", 48), ("250000 100000", 3), ("50000 100000", 1)):
        quota.write_text(text + "\n")
        assert settings.processors() == expected
    quota.unlink()
    assert settings.processors() == 48


def test_workers_get_what_the_user_left_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OMP_WAIT_POLICY", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    job = Job(print, (), 3)
    assert job.environment == {
        "OMP_WAIT_POLICY": "PASSIVE", "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "OMP_NUM_THREADS": "3", "POLARS_MAX_THREADS": "3",
    }  # fmt: skip
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert set(job.environment) == {"OMP_NUM_THREADS", "POLARS_MAX_THREADS"}
