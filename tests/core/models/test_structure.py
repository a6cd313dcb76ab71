"""Bases with layers that cannot be run are refused by their structure, and the layer is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconH1Config,
    Gemma4TextConfig,
    GptOssConfig,
    Lfm2Config,
    Llama4TextConfig,
    LlamaConfig,
    NemotronConfig,
    StableLmConfig,
)

from unharm.core.errors import UserError
from unharm.core.models.structure import check_structure, unsupported_layers

SMALL: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


def laid_out(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("config", "layer", "reason"),
    [
        (Lfm2Config(**SMALL, layer_types=["conv", "full_attention"]), "model.layers.0.conv.conv", "convolution"),
        (
            FalconH1Config(**SMALL, mamba_d_ssm=32, mamba_n_heads=2, mamba_d_head=16, mamba_d_state=4),
            "model.layers.0.mamba",
            "is a recurrent layer",
        ),
        (GptOssConfig(**SMALL, head_dim=16, num_local_experts=2), "model.layers.0.self_attn", "attention sinks"),
        (NemotronConfig(**SMALL), "model.layers.0", "does not pass on"),
        (StableLmConfig(**SMALL), "model.layers.0.self_attn", "attention interface of transformers"),
        (BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2), "transformer.h.0.self_attention", "interface"),
        (
            Llama4TextConfig(**SMALL, intermediate_size_mlp=48, num_local_experts=2, attention_chunk_size=8),
            "model.layers.0.self_attn",
            "within chunks",
        ),
        (
            Gemma4TextConfig(
                **SMALL, head_dim=16, global_head_dim=16, num_kv_shared_layers=1, vocab_size_per_layer_input=64,
                hidden_size_per_layer_input=8, layer_types=["full_attention"] * 2,
            ),
            "model.layers.1.self_attn",
            "keys and values of another layer",
        ),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)  # fmt: skip
def test_a_layer_that_cannot_be_run_is_named(config: Any, layer: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        check_structure(laid_out(config), "my-base")
    message = str(caught.value)
    assert f"{config.model_type} models cannot be run: {layer} " in message
    assert reason in message
    assert message.startswith("my-base")
    assert "serve it" in message


def test_plain_layers_pass() -> None:
    assert list(unsupported_layers(laid_out(LlamaConfig(**SMALL)))) == []
