"""Tests of `unharm.training.stacked_lora`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.stack_helpers import model_of
from unharm.core.errors import UserError
from unharm.core.models.peft_folder import Lora
from unharm.training.stacked_lora import Stack


def test_dropout_is_that_of_its_seed_alone() -> None:
    stack = Stack(model_of("llama"), Lora(r=2, dropout=0.25), 3)
    module = next(iter(stack.modules.values()))
    stack.set_dropout([1, 1, 1], (0, 0, 0), 400, 100)
    shared = module.keep
    assert shared is not None
    assert shared.shape == (1, 400, 32)
    assert set(np.unique(shared.numpy())) == {np.float32(0), np.float32(1 / 0.75)}
    assert float((shared == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    stack.set_dropout([1, 2, 1], (0, 0, 0), 420, 110)
    own = module.keep
    assert own is not None
    assert own.shape == (3, 420, 32)
    assert torch.equal(own[0], own[2])
    assert not torch.equal(own[0], own[1])
    assert torch.equal(own[0, :300], shared[0, :300])  # longer rows only add in between
    assert torch.equal(own[0, -100:], shared[0, -100:])
    stack.set_dropout([1], (0, 1, 0), 400, 100)
    assert not torch.equal(module.keep, shared)  # type: ignore[arg-type]


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
