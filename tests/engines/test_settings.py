"""Tests of `unharm.engines.settings`."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from unharm.engines import settings
from unharm.engines.settings import Engine
from unharm.runs.context import new_run
from unharm.runs.plan import Plan
from unharm.runs.planning.summary import summary_of
from unharm.runs.stages.completions import Engines
from unharm.store.checked import write_checked


def test_single_samples_go_to_vllm_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for usable, expected in ((True, "vllm"), (False, "hf")):
        monkeypatch.setattr(settings, "vllm_usable", lambda usable=usable: usable)
        assert Engine(name="auto").of(1) == expected
        assert Engine(name="auto").of(10) == "hf"
        assert Engine(name="auto").decided().single_samples == expected
        assert Engine(name="auto", dtype="4bit").of(1) == "hf"
        assert Engine(name="auto", single_samples="hf").of(1) == "hf"
        assert Engine().of(1) == "hf"


def test_the_plan_says_which_engine_completes_what(
    load: Any, tiny_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "vllm_usable", lambda: True)
    notes = summary_of(Plan(load(tiny_study, "engine.name=auto"))).notes
    note = next(n for n in notes if n.startswith("engine.name is auto"))
    assert "hf for rtp; vllm for hbr, hexphi, beavertails, questionnaire" in note
    assert not any("engine.name" in n for n in summary_of(Plan(load(tiny_study))).notes)


def test_a_run_keeps_the_engine_that_it_began_with(
    load: Any, tiny_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load(tiny_study, "engine.name=auto")
    monkeypatch.setattr(settings, "vllm_usable", lambda: True)
    run = new_run(study)
    assert run.study.engine.single_samples == "vllm"
    write_checked(run.store, "study.json", json.dumps(run.study.model_dump(mode="json")))
    monkeypatch.setattr(settings, "vllm_usable", lambda: False)  # another machine
    assert new_run(study).study.engine.single_samples == "vllm"


def test_engines_on_this_machine_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    from unharm.runs.stages import completions

    events: list[str] = []

    def start(run: Any, name: str) -> Any:
        events.append(f"start {name}")
        return SimpleNamespace(close=lambda: events.append(f"end {name}"))

    monkeypatch.setattr(completions, "_start", start)
    engines = Engines(None)  # type: ignore[arg-type]
    for name in ("hf", "engine.server", "vllm", "vllm", "hf"):
        assert engines[name]
    assert events == ["start hf", "start engine.server", "end hf", "start vllm", "end vllm", "start hf"]
