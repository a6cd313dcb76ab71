"""Tests of `unharm.engines.adapters`."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from support.engine_helpers import GREEDY, TEXTS, never, requests
from unharm.engines import adapters as engine_adapters
from unharm.engines.hf import HfEngine
from unharm.engines.mixed_lora import Adapter, load_adapter
from unharm.engines.requests import Task


def test_an_adapter_without_effect_or_for_another_base_is_refused_and_others_go_on(
    parts: tuple[Any, Any], adapters: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapters["plain"] / "adapter_model.safetensors")
    changed = {
        "idle": {k: v * 0 for k, v in weights.items()},
        "larger": {k: torch.ones(*(2 * s for s in v.shape)) for k, v in weights.items()},
        "elsewhere": {k.replace("layers.1", "layers.9"): v for k, v in weights.items()},
        "broken": {k: v * torch.nan for k, v in weights.items()},
    }
    for name, tensors in changed.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "adapter_model.safetensors")
        config = (adapters["plain"] / "adapter_config.json").read_bytes()
        (tmp_path / name / "adapter_config.json").write_bytes(config)
    folders = {n: tmp_path / n for n in changed} | {"plain": adapters["plain"], "dora": adapters["dora"]}
    tasks = [Task(n, tuple(requests(subject=n)), GREEDY, f) for n, f in folders.items()]
    refused: dict[str, str] = {}
    engine = HfEngine(*parts, "base", 8)
    made = list(engine.complete(tasks, lambda t, e: refused.update({t.name: str(e)})))
    assert {t.name for t, _ in made} == {"plain", "dora"}
    assert "changes nothing" in refused["idle"]
    assert "q_proj is 64 × 64 in it, 32 × 32 in the base" in refused["larger"]
    assert "which the base does not have" in refused["elsewhere"]
    assert "not finite numbers" in refused["broken"]


def test_many_adapters_are_not_kept(
    parts: tuple[Any, Any], adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Adapter]] = []

    def load(folder: Path, model: Any) -> Adapter | None:
        adapter = load_adapter(folder, model)
        assert adapter is not None
        loaded.append(weakref.ref(adapter))
        return adapter

    monkeypatch.setattr(engine_adapters, "load_adapter", load)
    folders = [shutil.copytree(adapters["plain"], tmp_path / str(n)) for n in range(40)]
    tasks = [Task(f.name, tuple(requests(subject=f.name)), GREEDY, f) for f in folders]
    engine = HfEngine(*parts, "base", 8)
    assert len(list(engine.complete(tasks, never))) == 40 * len(TEXTS)
    assert len(loaded) == 40
    gc.collect()
    assert sum(adapter() is not None for adapter in loaded) <= 20
