"""Tests of `unharm.training.attention`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.stack_helpers import model_of, padded_loss, peft_of, random_rows
from support.stacks import configs, job, tiny_model, trained, tree_of_examples
from unharm.core.errors import UserError
from unharm.core.models.peft_folder import Lora
from unharm.training import attention
from unharm.training.attention import check_packing, label_logits, packing, recomputing
from unharm.training.loss import label_losses
from unharm.training.prefix_tree import WeightedExample, pack
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack

ARCHITECTURES = sorted(configs())


@pytest.mark.parametrize("name", ARCHITECTURES)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 9), header=st.integers(1, 12))
@settings(max_examples=8)
def test_packed_gradients_equal_padded_ones(name: str, seed: int, count: int, header: int) -> None:
    model = model_of(name)
    batch = tree_of_examples(seed, count, header)
    stack = Stack(model, Lora(r=3, dropout=0.0, targets=["q_proj", "v_proj", "down_proj"]), 1)
    stack.weights.copy_(random_rows(stack))
    adapted = peft_of(model, stack, stack.weights[0])
    expected = padded_loss(adapted, batch)
    expected.backward()
    labels = sum(len(t.ids) - t.start for t in batch)
    with packing(model), stack.attached():
        packed = pack([[WeightedExample(t, 1 / labels) for t in batch]])
        loss = (label_losses(label_logits(model, packed), packed) * packed.label_weight).sum()
        loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    own = dict(adapted.named_parameters())
    theirs = torch.cat(
        [
            own[n.replace(".weight", ".default.weight")].grad.flatten()
            for n in stack.peft_tensors(stack.grads[0])
        ]
    )
    ours = torch.cat([t.flatten() for t in stack.peft_tensors(stack.grads[0]).values()])
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5
    prefixes = {tuple(t.ids[: i + 1]) for t in batch for i in range(len(t.ids))}
    assert packed.tokens == len(prefixes)  # each distinct prefix ends in one token of the tree


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_passes_its_own_check(name: str) -> None:
    check_packing(model_of(name), tree_of_examples(1, 4, header=10))


def test_an_architecture_that_attends_otherwise_is_refused() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(1)
    model = BloomForCausalLM(BloomConfig(vocab_size=120, hidden_size=32, n_layer=2, n_head=4)).eval()
    with pytest.raises(UserError, match="bloom models cannot be packed"):
        check_packing(model, tree_of_examples(1, 3))


def test_recomputed_activations_change_nothing() -> None:
    model, lora, jobs = tiny_model("llama"), Lora(r=4, dropout=0.2), [job(1), job(2)]
    recipe = Recipe(lr=5e-3, epochs=2, batch=4)
    _, plain = trained(model, jobs, lora, recipe)
    with recomputing(model, True):
        _, again = trained(model, jobs, lora, recipe)
    assert float((plain.best - again.best).norm() / plain.best.norm()) < 1e-5
    assert not model.training


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3"])
def test_fused_kernels_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of an accelerator, taken on a CPU."""
    model, lora, jobs = model_of(name), Lora(r=4, dropout=0.0), [job(1), job(2)]
    recipe = Recipe(lr=5e-3, epochs=2, batch=4)
    _, plain = trained(model, jobs, lora, recipe)
    calls: list[torch.Tensor] = []

    def fused(query: torch.Tensor) -> bool:
        calls.append(query)
        return True

    monkeypatch.setattr(attention, "fused_kernels", fused)
    _, again = trained(model, jobs, lora, recipe)
    assert calls
    assert float((plain.best - again.best).norm() / plain.best.norm()) < 1e-4
    check_packing(model, tree_of_examples(1, 4, header=10))


def test_attention_that_plans_for_every_shape_is_off() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with packing(model_of("llama")):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
