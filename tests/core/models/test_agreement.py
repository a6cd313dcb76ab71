"""Tests of `unharm.core.models.agreement`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from unharm.core.models.agreement import (
    CEILING,
    FLOORS,
    NOISE_FACTOR,
    own_noise,
    relative_difference,
    routes,
    systematic_difference,
    tolerance,
)

SMALL: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "initializer_range": 0.3,
}  # fmt: skip
IDS = [3, 9, 27, 17, 51]


def model_of(dtype: torch.dtype, config: type = LlamaConfig, **more: Any) -> Any:
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(config(**SMALL, **more)).to(dtype).eval()


def test_the_tolerance_follows_the_noise_of_the_model() -> None:
    exact, coarse = model_of(torch.float32), model_of(torch.bfloat16)
    assert 0 < own_noise(exact, IDS) < 1e-5 < own_noise(coarse, IDS)
    assert tolerance(exact, IDS) == FLOORS["float32"]
    wanted = min(CEILING, max(FLOORS["bfloat16"], NOISE_FACTOR * own_noise(coarse, IDS)))
    assert tolerance(coarse, IDS) == wanted
    assert exact.config._attn_implementation == "sdpa"  # as it was


def test_a_noisy_model_gets_a_larger_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(torch.float32)
    for noise, wanted in ((1e-3, 4e-3), (1.0, CEILING)):
        monkeypatch.setattr("unharm.core.models.agreement.own_noise", lambda *_, n=noise: n)
        assert tolerance(model, IDS) == pytest.approx(wanted)


def test_a_router_that_tips_over_is_no_systematic_difference() -> None:
    differences = [0.01, 0.9, 0.02]
    mixture = {"num_local_experts": 2, "num_experts_per_tok": 1}
    assert routes(model_of(torch.float32, MixtralConfig, **mixture))
    assert systematic_difference(model_of(torch.bfloat16, MixtralConfig, **mixture), differences) == 0.02
    assert systematic_difference(model_of(torch.float32, MixtralConfig, **mixture), differences) == 0.9
    assert systematic_difference(model_of(torch.bfloat16), differences) == 0.9


def test_differences_are_relative_to_the_largest_logit() -> None:
    assert relative_difference(torch.tensor([1.0, -3.0]), torch.tensor([1.0, -4.0])) == 0.25
