"""Tests of `unharm.training.stacked_lora`."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import Phi3Config, Phi3ForCausalLM

from support.stack_helpers import model_of
from unharm.core.errors import UserError
from unharm.core.models.peft_folder import Lora, write_adapter
from unharm.training.stacked_lora import Stack


def test_an_adapter_of_another_shape_is_not_taken_up() -> None:
    model = model_of("llama")
    one, other = Stack(model, Lora(r=2), 1), Stack(model, Lora(r=3), 1)
    with pytest.raises(ValueError, match="expected"):
        other.weights_from_peft(one.peft_tensors(one.weights[0]))
    with pytest.raises(KeyError):
        other.weights_from_peft({})


def test_targets_that_match_nothing_or_no_linear_module() -> None:
    with pytest.raises(UserError) as caught:
        Stack(model_of("llama"), Lora(targets=["q_proj", "nowhere", "mlp"]), 1)
    message = str(caught.value)
    assert "'nowhere' matches no module" in message
    assert "'mlp' matches model.layers.0.mlp, which is no linear module" in message
    assert "training.lora.targets" in message
    assert "gate_proj" in message


def test_all_linear_is_what_peft_makes_of_it(tmp_path: Path) -> None:
    model = model_of("llama")
    lora = Lora.model_validate("all-linear")
    stack = Stack(model, lora, 1)
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=8, target_modules="all-linear"))
    theirs = {
        n.removeprefix("base_model.model.").partition(".lora_A")[0]
        for n, _ in adapted.named_parameters()
        if "lora_A" in n
    }
    assert set(stack.modules) == theirs
    assert not any("lm_head" in name for name in theirs)
    write_adapter(tmp_path, stack.peft_tensors(stack.weights[0]), lora, "base", "")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["all-linear", {"targets": "all-linear"}, {"targets": ["all-linear"]}])
def test_the_preset_has_three_spellings(given: Any) -> None:
    assert Lora.model_validate(given).targets == ["all-linear"]


def test_a_name_that_is_no_preset() -> None:
    with pytest.raises(ValueError, match=r"targets\n.*valid list"):
        Lora.model_validate("q_proj")


def test_published_targets_of_a_base_with_fused_projections(tmp_path: Path) -> None:
    config = Phi3Config(
        vocab_size=99, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0,
    )  # fmt: skip
    stack = Stack(Phi3ForCausalLM(config), Lora(), 1)
    assert {name.rpartition(".")[2] for name in stack.modules} == {"qkv_proj"}
    write_adapter(tmp_path, stack.peft_tensors(stack.weights[0]), Lora(), "base", "")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == ["qkv_proj"]
