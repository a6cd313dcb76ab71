"""Packing and stacking change nothing but the speed."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy

from stacks import configs, job, tiny_model, trained, tree_of_examples
from unharm.core.errors import UserError
from unharm.core.models.peft_folder import Lora, write_adapter
from unharm.training.attention import check_packing, label_logits, packing, recomputing
from unharm.training.loop import OutOfMemory, TrainingCallbacks, initial_state
from unharm.training.loss import label_losses
from unharm.training.optimiser import adamw_step
from unharm.training.prefix_tree import WeightedExample, pack
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import TrainingState
from unharm.training.tokens import Tokens

ARCHITECTURES = sorted(configs())
MODELS: dict[str, Any] = {}


def model_of(name: str) -> Any:
    if name not in MODELS:
        MODELS[name] = tiny_model(name)
    return MODELS[name]


def padded_loss(model: Any, batch: list[Tokens]) -> Any:
    """The plain way: padded on the right, all logits, mean over the label tokens."""
    longest = max(len(t.ids) for t in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens.ids)] = torch.tensor(list(tokens.ids))
        mask[row, : len(tokens.ids)] = 1
        labels[row, tokens.start : len(tokens.ids)] = torch.tensor(list(tokens.ids[tokens.start :]))
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def peft_of(model: Any, stack: Stack, row: torch.Tensor, dropout: float = 0.0) -> Any:
    """PEFT's own module with the weights of one row of a stack."""
    lora = stack.lora
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(copy.deepcopy(model), config)
    own = dict(adapted.named_parameters())
    for name, tensor in stack.peft_tensors(row).items():
        own[name.replace(".weight", ".default.weight")].data.copy_(tensor)
    return adapted


def random_rows(stack: Stack, seed: int = 5) -> torch.Tensor:
    return torch.randn(stack.weights.shape, generator=torch.Generator().manual_seed(seed)) * 0.05


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


def test_shared_prefixes_are_computed_once() -> None:
    batch = [Tokens(str(i), _ids([1, 2, 3, 4, 10 + i]), 4) for i in range(5)]
    packed = pack([[WeightedExample(t, 1.0) for t in batch], []])
    assert packed.tokens == 4 + 5
    assert packed.predictors == 1  # all labels follow the same token
    assert packed.ids.shape == (2, 9)
    assert packed.label.tolist() == [10, 11, 12, 13, 14]


def test_the_same_example_twice_counts_twice() -> None:
    model = model_of("llama")
    batch = tree_of_examples(4, 2)
    with packing(model), torch.no_grad():
        once = pack([[WeightedExample(t, 1.0) for t in batch]])
        twice = pack([[WeightedExample(t, 1.0) for t in [*batch, batch[0]]]])
        own = label_losses(label_logits(model, once), once).sum()
        both = label_losses(label_logits(model, twice), twice).sum()
        alone = pack([[WeightedExample(batch[0], 1.0)]])
        first = label_losses(label_logits(model, alone), alone).sum()
    assert both.item() == pytest.approx((own + first).item(), rel=1e-5)
    assert twice.tokens == once.tokens


def _ids(numbers: list[int]) -> Any:
    from array import array

    return array("i", numbers)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_passes_its_own_check(name: str) -> None:
    check_packing(model_of(name), tree_of_examples(1, 4, header=10))


def test_an_architecture_that_attends_otherwise_is_refused() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(1)
    model = BloomForCausalLM(BloomConfig(vocab_size=120, hidden_size=32, n_layer=2, n_head=4)).eval()
    with pytest.raises(UserError, match="bloom models cannot be packed"):
        check_packing(model, tree_of_examples(1, 3))


RECIPE = Recipe(lr=1e-3, epochs=13, batch=8)  # 52 steps


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_stacked_adapters_equal_those_trained_alone(dropout: float) -> None:
    """Different data, different numbers of steps; 52 steps; dropout included."""
    model, lora = model_of("llama"), Lora(r=4, dropout=dropout, targets=["q_proj", "v_proj", "up_proj"])
    jobs = [job(1), job(2, count=27), job(3, valid=0), job(4, count=19)]
    _, together = trained(model, jobs, lora, RECIPE)
    for k, own in enumerate(jobs):
        _, alone = trained(model, [own], lora, RECIPE)
        assert float((together.weights[k] - alone.weights[0]).norm() / alone.weights[0].norm()) < 1e-5
        assert float((together.best[k] - alone.best[0]).norm() / alone.best[0].norm()) < 1e-5
        assert together.curves[k].best_epoch == alone.curves[0].best_epoch
        assert together.curves[k].valid == pytest.approx(alone.curves[0].valid, rel=1e-5)


def plain_peft(model: Any, own: Any, stack: Stack, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Plain PEFT and torch.optim.AdamW on the same batches."""
    from unharm.training.loop import StackTraining

    adapted = peft_of(model, stack, stack.initial_weights(own.seed))
    weights = [p for p in adapted.parameters() if p.requires_grad]
    steps_per_epoch = -(-len(own.train) // (recipe.batch * recipe.accumulate))
    total = recipe.epochs * steps_per_epoch
    optimiser = torch.optim.AdamW(weights, lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    order = StackTraining(stack, None, [own], recipe, [steps_per_epoch], 1, TrainingCallbacks())  # type: ignore[arg-type]
    for epoch in range(recipe.epochs):
        for group in order.steps_of(own, epoch):
            for batch in group:
                (padded_loss(adapted, batch) / len(group)).backward()
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    return {
        n.replace(".default.", "."): p.detach() for n, p in adapted.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize(("batch", "accumulate", "row_tokens"), [(8, 1, 4096), (1, 8, 4096), (4, 2, 40)])
def test_our_adapter_equals_plain_peft(batch: int, accumulate: int, row_tokens: int) -> None:
    """52 steps on the same batches; a step may be made in one pass or, with few `row_tokens`, in parts."""
    recipe = RECIPE.model_copy(update={"batch": batch, "accumulate": accumulate})
    model, lora, own = model_of("qwen3"), Lora(r=4, dropout=0.0), job(1, valid=0)
    stack, state = trained(model, [own], lora, recipe, row_tokens=row_tokens)
    theirs = plain_peft(model, own, stack, recipe)
    ours = stack.peft_tensors(state.best[0])
    assert set(ours) == set(theirs)
    ours_flat, theirs_flat = (torch.cat([x[n].flatten() for n in sorted(x)]) for x in (ours, theirs))
    assert float((ours_flat - theirs_flat).norm() / theirs_flat.norm()) < 1e-4


def test_the_optimiser_equals_torch() -> None:
    draw = torch.Generator().manual_seed(2)
    start = torch.randn(3, 40, generator=draw)
    mine, first, second = start.clone(), torch.zeros(3, 40), torch.zeros(3, 40)
    theirs = [torch.nn.Parameter(start[k].clone()) for k in range(3)]
    rates = [1e-2, 3e-3, 0.5]
    optimisers = [
        torch.optim.AdamW([p], lr=lr, weight_decay=0.1) for p, lr in zip(theirs, rates, strict=True)
    ]
    for step in range(1, 31):
        grads = torch.randn(3, 40, generator=draw) * 0.01
        active = torch.tensor([True, step % 3 != 0, True])
        counts = torch.tensor([step, step - step // 3, step])
        for k in range(3):
            if active[k]:
                theirs[k].grad = grads[k].clone()
                optimisers[k].step()
        grads[~active] = torch.nan
        adamw_step(mine, grads, first, second, counts, torch.tensor(rates), 0.1, active)
    assert torch.allclose(mine, torch.stack([p.detach() for p in theirs]), rtol=1e-5, atol=1e-7)


def test_resumed_equals_uninterrupted_bit_by_bit(tmp_path: Path) -> None:
    model, lora, jobs = model_of("gemma2"), Lora(r=4, dropout=0.3), [job(1), job(2, count=27)]
    states: list[bytes] = []
    watch = TrainingCallbacks(save=lambda state: states.append(state.to_bytes()))
    stack, whole = trained(model, jobs, lora, RECIPE, watch)
    assert len(states) == 13 * 4
    for number in (0, 6, 29, 51):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(states[number])
        _, resumed = trained(model, jobs, lora, RECIPE, state=TrainingState.read(path, stack.size))
        assert torch.equal(resumed.weights, whole.weights)
        assert torch.equal(resumed.best, whole.best)
        assert resumed.curves == whole.curves


def test_a_diverging_adapter_stops_and_spares_the_rest() -> None:
    model, lora = model_of("llama"), Lora(r=4, dropout=0.0)
    jobs = [job(1), job(2), job(3)]
    stack = Stack(model, lora, 3)
    jobs[1].start = torch.full((stack.size,), torch.nan)
    told: list[str] = []
    _, state = trained(model, jobs, lora, RECIPE, TrainingCallbacks(say=told.append))
    assert told == ["adapter 2: training stopped, the loss is not a finite number in epoch 1, step 1"]
    assert [bool(c.stopped) for c in state.curves] == [False, True, False]
    for k in (0, 2):
        _, alone = trained(model, [jobs[k]], lora, RECIPE)
        assert float((state.best[k] - alone.best[0]).norm() / alone.best[0].norm()) < 1e-5


def test_an_exploding_adapter_stops() -> None:
    told: list[str] = []
    model = tiny_model("llama")
    model.lm_head.weight.data *= 6  # so sure of itself that a wild adapter costs more than guessing
    own = job(1)
    recipe = Recipe(lr=100.0, epochs=30, batch=4)
    _, state = trained(
        model, [own], Lora(r=4, targets=["down_proj"]), recipe, TrainingCallbacks(say=told.append)
    )
    assert state.curves[0].stopped.startswith("the loss is ")
    assert state.weights.isfinite().all()
    assert len(told) == 1


def test_without_memory_the_state_is_that_before_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from unharm.training import loop

    model, lora, jobs = model_of("llama"), Lora(r=4), [job(k, key=str(k)) for k in range(4)]
    _, whole = trained(model, jobs, lora, RECIPE)
    calls = 0

    def full(*words: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 23:
            raise torch.OutOfMemoryError("no memory")
        return label_logits(*words)

    monkeypatch.setattr(loop, "label_logits", full)
    stack = Stack(model, lora, 4)
    state = initial_state(stack, jobs)
    with pytest.raises(OutOfMemory):
        trained(model, jobs, lora, RECIPE, state=state)
    assert (state.epoch, state.step) != (0, 0)
    halves = state.halves()
    assert [h.keys for h in halves] == [["0", "1"], ["2", "3"]]
    for number, half in enumerate(halves):
        _, ended = trained(model, jobs[2 * number : 2 * number + 2], lora, RECIPE, state=half)
        expected = whole.best[2 * number : 2 * number + 2]
        assert float((ended.best - expected).norm() / expected.norm()) < 1e-5
    calls = 22
    with pytest.raises(UserError, match="no memory to train a single adapter"):
        trained(model, jobs[:1], lora, RECIPE)


def test_recomputed_activations_change_nothing() -> None:
    model, lora, jobs = tiny_model("llama"), Lora(r=4, dropout=0.2), [job(1), job(2)]
    recipe = Recipe(lr=5e-3, epochs=2, batch=4)
    _, plain = trained(model, jobs, lora, recipe)
    with recomputing(model, True):
        _, again = trained(model, jobs, lora, recipe)
    assert float((plain.best - again.best).norm() / plain.best.norm()) < 1e-5
    assert not model.training


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "adapter"
    path.mkdir()
    return path


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


def test_the_base_is_itself_afterwards() -> None:
    model = tiny_model("llama")
    before = {n: p.clone() for n, p in model.state_dict().items()}
    trained(model, [job(1)], Lora(), Recipe(epochs=1))
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())
    assert model.config._attn_implementation == "sdpa"


@given(seed=st.integers(0, 500), count=st.integers(0, 20), row_tokens=st.integers(1, 120))
@settings(max_examples=40)
def test_parts_keep_every_example_once_and_within_bounds(seed: int, count: int, row_tokens: int) -> None:
    from unharm.training.loop import split_rows

    examples = [WeightedExample(t, 1.0) for t in tree_of_examples(seed, count)]
    parts = split_rows(examples, row_tokens)
    assert [e for part in parts for e in part] == examples
    for part in parts:
        size = sum(len(e.tokens.ids) for e in part)
        assert size <= row_tokens or len(part) == 1
    for part, following in pairwise(parts):
        assert sum(len(e.tokens.ids) for e in [*part, following[0]]) > row_tokens


def test_the_size_of_a_stack_follows_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from unharm.core.models import memory
    from unharm.training import stack_size as sizes

    stack, jobs, recipe = Stack(model_of("llama"), Lora(), 1), [job(1)], Recipe(batch=8)
    one = sizes.bytes_per_adapter(stack, jobs, recipe, 4096, False)
    assert sizes.bytes_per_adapter(stack, jobs, recipe, 4096, True) < one
    assert sizes.bytes_per_adapter(stack, jobs, recipe, 20, False) < one
    for free, expected in ((0, 1), (one, 1), (7 * one, 3), (10**15, sizes.MAX_STACK["cpu"])):
        monkeypatch.setattr(sizes, "free_memory", lambda device, free=free: free)
        assert sizes.stack_size(stack, jobs, recipe, 4096, False) == expected
    monkeypatch.undo()
    assert memory.free_memory(stack.weights.device) > 0
