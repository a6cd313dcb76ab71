"""Weights of adapters made elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unharm.core.errors import UserError
from unharm.core.models.adapter_check import check_adapter
from unharm.core.models.peft_folder import CONFIG, WEIGHTS

NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def folder(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir()
    (path / CONFIG).write_text('{"peft_type": "LORA"}')
    save_file(tensors, path / WEIGHTS)
    return path


def test_a_right_one_passes(tmp_path: Path) -> None:
    check_adapter(folder(tmp_path / "a", {NAME: torch.ones(2, 2)}), "mine")


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
