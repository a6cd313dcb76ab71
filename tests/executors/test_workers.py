"""How many workers a stage gets, and which accelerators each of them sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.executors_helpers import small
from unharm.core.errors import UserError
from unharm.executors import workers
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.plan import Plan
from unharm.store.store import Store


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


def test_a_task_that_asks_for_more_than_there_is_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "accelerators", list)
    with pytest.raises(UserError, match="one task asks for 2 gpus, this machine has 0"):
        run_study(small(tiny_base, tmp_path / "run", executor={"gpus": 2}))
    assert not (tmp_path / "run").exists()
