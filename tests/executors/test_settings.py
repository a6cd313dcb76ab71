"""Tests of `unharm.executors.settings`."""

from __future__ import annotations

import pytest

from unharm.executors import settings
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
