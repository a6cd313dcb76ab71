"""Weights of adapters made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from unharm.core.errors import UserError
from unharm.core.models.adapter_check import check_adapter
from unharm.core.models.peft_folder import CONFIG, WEIGHTS

NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


PAIR = {NAME: torch.ones(2, 4), NAME.replace("_A.", "_B."): torch.ones(6, 2)}


def folder(path: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    path.mkdir()
    (path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4} | config))
    save_file(tensors, path / WEIGHTS)
    return path


def test_a_right_one_passes(tmp_path: Path) -> None:
    check_adapter(folder(tmp_path / "a", PAIR), "mine")
    patterns = {"rank_pattern": {"layers.*.q_proj": 2}, "r": 8, "target_modules": r".*\.(q_proj|v_proj)"}
    check_adapter(folder(tmp_path / "b", PAIR, **patterns), "mine")


def test_garbage_is_refused(tmp_path: Path) -> None:
    made = folder(tmp_path / "a", {NAME: torch.ones(2, 2)})
    (made / WEIGHTS).write_bytes(b"\x93NUMPY garbage" * 10)
    with pytest.raises(UserError, match="mine cannot be read"):
        check_adapter(made, "mine")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(tmp_path: Path, value: float) -> None:
    with pytest.raises(UserError, match="not finite"):
        check_adapter(folder(tmp_path / "a", {NAME: torch.tensor([value])}), "mine")


def test_tensors_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no LoRA matrix"):
        check_adapter(folder(tmp_path / "a", {"weight": torch.ones(2)}), "mine")


def test_a_link_to_a_file_elsewhere(tmp_path: Path) -> None:
    made = folder(tmp_path / "a", {NAME: torch.ones(2, 2)})
    (made / WEIGHTS).rename(tmp_path / "elsewhere")
    (made / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out"):
        check_adapter(made, "mine")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": 8}, "it says the rank 8, and .* has the rank 2"),
        ({"r": 10**9}, "r is 1000000000, expected a whole number"),
        ({"r": "x"}, "r is 'x'"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": 1e308}, "lora_alpha is 1e\\+308"),
        ({"lora_alpha": "inf"}, "lora_alpha is 'inf'"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
        ({"rank_pattern": {"q_proj": 0}}, "r is 0"),
        ({"rank_pattern": [1]}, "rank_pattern is no mapping"),
        ({"alpha_pattern": {"(.*.)*x": 4}}, "repeats a group"),
        ({"target_modules": "(a+)+$"}, "repeats a group"),
        ({"target_modules": ".*" * 20 + "x"}, "more than 8 repetitions"),
        ({"target_modules": "("}, "no regular expression"),
        ({"use_dora": True}, "has no magnitude vector"),
        ({"layer_replication": [[0, 1000000]]}, "layer_replication"),
    ],
)
def test_a_configuration_that_says_something_else(
    tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        check_adapter(folder(tmp_path / "a", PAIR, **config), "mine")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({NAME: torch.ones(2, 4)}, "has no partner lora_B"),
        ({NAME.replace("_A.", "_B."): torch.ones(6, 2)}, "has no partner lora_A"),
        (PAIR | {NAME: torch.ones(3, 4)}, "has the rank 3, and its partner 2"),
    ],
)
def test_half_a_pair(tmp_path: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_adapter(folder(tmp_path / "a", tensors), "mine")
