"""Tests of `unharm.core.models.peft_folder`."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from support.stack_helpers import model_of, padded_loss, random_rows
from support.stacks import tree_of_examples
from unharm.core.models.peft_folder import Lora, scaled_configuration, write_adapter
from unharm.training.attention import label_logits, packing
from unharm.training.loss import label_losses
from unharm.training.prefix_tree import WeightedExample, pack
from unharm.training.stacked_lora import Stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "adapter"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_what_alpha_does_not_multiply_is_not_scaled(config: dict[str, object], more: str) -> None:
    with pytest.raises(ValueError, match=more):
        scaled_configuration({"lora_alpha": 8, **config}, 0.5)
    assert scaled_configuration({"lora_alpha": 8, "alpha_pattern": {"q": 4}}, 0.5) == {
        "lora_alpha": 4.0,
        "alpha_pattern": {"q": 2.0},
    }


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["o_proj", "gate_proj", "layers.1.mlp.up_proj"]])
def test_exported_folders_load_in_peft_with_equal_logits(folder: Path, targets: list[str]) -> None:
    model, lora = model_of("mistral"), Lora(r=3, alpha=7, dropout=0.1, targets=targets)
    stack = Stack(model, lora, 2)
    stack.weights.copy_(random_rows(stack))
    write_adapter(folder, stack.peft_tensors(stack.weights[1]), lora, "some/base", "abc")
    batch = tree_of_examples(9, 5)
    adapted = PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    with packing(model), stack.attached(), torch.no_grad():
        packed = pack([[], [WeightedExample(t, 1.0) for t in batch]])
        ours = label_losses(label_logits(model, packed), packed)
        theirs = padded_loss(adapted, batch)
    assert ours.mean().item() == pytest.approx(theirs.item(), rel=1e-5)
    assert adapted.peft_config["default"].base_model_name_or_path == "some/base"
    from safetensors.torch import load_file

    assert torch.equal(
        stack.weights_from_peft(load_file(folder / "adapter_model.safetensors")), stack.weights[1]
    )
