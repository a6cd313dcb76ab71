"""Tests of `unharm.runs.base`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.executors_helpers import small
from support.studies import study_data
from unharm.core.errors import UserError
from unharm.runs.base import Base, resolve_base


def test_a_base_that_differs_is_refused(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unharm.runs import base

    study = small(tiny_base, tmp_path / "run")
    there = Base("b", tmp_path / "not here", "another key")
    with pytest.raises(UserError, match="differs from the base on the machine"):
        base.same_base(there, study)
    here = base.resolve_base(study)
    assert base.same_base(here, study) == here


def test_a_base_that_cannot_be_trained_is_refused_before_any_work(tmp_path: Path, load: Any) -> None:
    """A convolution runs without an error, with wrong text; it is told by structure."""
    from transformers import AutoModelForCausalLM, Lfm2Config

    config = Lfm2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, layer_types=["conv", "full_attention"], pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    folder = tmp_path / "lfm"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    data = study_data(folder, tmp_path / "run")
    with pytest.raises(
        UserError, match=r"lfm2 models cannot be run: model.layers.0.conv.conv is a convolution"
    ):
        resolve_base(load(data))
    data |= {"arms": ["vanilla"], "engine": {"name": "vllm"}}  # vLLM has layers of its own
    data.pop("corpus")
    data.pop("training")
    assert resolve_base(load(data)).path == folder


def test_targets_that_the_base_lacks_are_told_before_any_work(
    tiny_study: dict[str, Any], load: Any
) -> None:
    tiny_study["training"]["lora"] = {"targets": ["query"]}
    with pytest.raises(UserError, match="'query' matches no module of the base"):
        resolve_base(load(tiny_study))
