"""Guards inside training equal plain PyTorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

from support.stack_helpers import model_of, padded_loss, peft_of, random_rows
from support.stacks import job, trained, tree_of_examples
from unharm.core.models.decoder_layers import layer_output, with_layer_output
from unharm.core.models.peft_folder import Lora
from unharm.training.attention import packing
from unharm.training.guards import KlGuard, added_texts, divergences, guard_pass, interleaved
from unharm.training.loop import StackTraining, TrainingCallbacks
from unharm.training.schedule import Schedule, steps_of
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob, TrainingState
from unharm.training.tokens import Tokens

RECIPE = Recipe(lr=1e-3, epochs=3, batch=8)
SAFE = tree_of_examples(77, 9, header=3)
GUARD = KlGuard(tuple(SAFE), 0.7, 4)


def gradients_of(jobs: list[AdapterJob]) -> tuple[Any, Stack, torch.Tensor]:
    """The gradients of the first step of adapters with random weights."""
    model = model_of("llama")
    stack = Stack(model, Lora(r=4, dropout=0.0, targets=["q_proj", "v_proj", "up_proj"]), len(jobs))
    rows = random_rows(stack)
    state = TrainingState.begin([j.key for j in jobs], rows.clone())
    stack.weights.copy_(rows)
    state.move_to(stack.weights)
    schedule = Schedule(jobs, RECIPE, 4096, stack.weights.device, False)
    training = StackTraining(stack, state, jobs, RECIPE, schedule, TrainingCallbacks(), False)
    with packing(model), stack.attached():
        training.step(schedule.prepare(0, 0, [steps_of(j, RECIPE, 0)[0] for j in jobs]))
    return model, stack, rows


def assert_equal_gradients(stack: Stack, k: int, adapted: Any) -> None:
    ours = stack.peft_tensors(stack.grads[k])
    theirs = {
        n.replace(".default.", "."): p.grad for n, p in adapted.named_parameters() if p.grad is not None
    }
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert float((ours[name] - gradient).norm() / gradient.norm()) < 1e-5, name


def plain_divergence(adapted: Any, base: Any, texts: list[Tokens]) -> torch.Tensor:
    """The mean over all labels of the divergence, one text at a time."""
    each = []
    for tokens in texts:
        ids = torch.tensor([list(tokens.ids)])
        with torch.no_grad():
            p = log_softmax(base(input_ids=ids).logits[0, tokens.start - 1 : -1], dim=-1)
        q = log_softmax(adapted(input_ids=ids).logits[0, tokens.start - 1 : -1], dim=-1)
        each.append(kl_div(q, p, log_target=True, reduction="none").sum(dim=-1))
    return torch.cat(each).mean()


def test_gradients_with_the_divergence_equal_plain_torch() -> None:
    jobs = [job(1), job(2, count=27)]
    for own in jobs:
        own.guard = GUARD
    model, stack, rows = gradients_of(jobs)
    texts = GUARD.batch(jobs[0].seed, 0, 0)
    assert len(texts) == 4
    for k, own in enumerate(jobs):
        adapted = peft_of(model, stack, rows[k])
        batch = steps_of(own, RECIPE, 0)[0][0]
        loss = padded_loss(adapted, batch) + 0.7 * plain_divergence(adapted, model, texts)
        loss.backward()
        assert_equal_gradients(stack, k, adapted)


def test_gradients_with_safe_texts_between_equal_plain_torch() -> None:
    jobs = [job(1), job(2, count=27)]
    for own in jobs:
        own.train = interleaved(own.train, SAFE, 0.4, own.seed)
    model, stack, rows = gradients_of(jobs)
    for k, own in enumerate(jobs):
        batch = steps_of(own, RECIPE, 0)[0][0]
        assert any(t.example_id.startswith("safe/") for t in batch)
        adapted = peft_of(model, stack, rows[k])
        padded_loss(adapted, batch).backward()
        assert_equal_gradients(stack, k, adapted)


def test_gradients_along_a_direction_equal_plain_torch() -> None:
    """The direction is added to every layer in training, and to none in validation."""
    jobs = [job(1), job(2, count=27)]
    shift = torch.randn(3, 32, generator=torch.Generator().manual_seed(2))
    for own in jobs:
        own.shift = shift
    model, stack, rows = gradients_of(jobs)
    for k, own in enumerate(jobs):
        adapted = peft_of(model, stack, rows[k])
        batch = steps_of(own, RECIPE, 0)[0][0]
        layers = adapted.base_model.model.model.layers
        for line, layer in zip(shift, layers, strict=True):
            layer.register_forward_hook(
                lambda _, __, out, line=line: with_layer_output(out, layer_output(out) + line)
            )
        padded_loss(adapted, batch).backward()
        assert_equal_gradients(stack, k, adapted)
    assert not any(layer._forward_hooks for layer in model.model.layers)


def test_validation_goes_without_the_direction() -> None:
    model, lora = model_of("llama"), Lora(r=4, dropout=0.0)
    recipe = RECIPE.model_copy(update={"lr": 1e-12, "epochs": 1})
    plain, steered = job(1), job(1)
    steered.shift = torch.ones(3, 32)
    (_, without), (_, along) = (trained(model, [own], lora, recipe) for own in (plain, steered))
    assert along.curves[0].valid == pytest.approx(without.curves[0].valid, rel=1e-6)
    assert along.curves[0].train[0][1] != pytest.approx(without.curves[0].train[0][1], rel=1e-3)


def test_a_strong_guard_keeps_the_adapter_near_the_base() -> None:
    model, lora = model_of("llama"), Lora(r=4, dropout=0.0)
    free, bound = job(1), job(1)
    bound.guard = KlGuard(tuple(SAFE), 30.0, 8)
    recipe = RECIPE.model_copy(update={"lr": 5e-3, "epochs": 6})
    distances = []
    for own in (free, bound):
        stack, state = trained(model, [own], lora, recipe)
        adapted = peft_of(model, stack, state.weights[0])
        with torch.no_grad():
            distances.append(float(plain_divergence(adapted, model, SAFE)))
        assert state.curves[0].train[-1][1] < state.curves[0].train[0][1]
    assert distances[1] < 0.3 * distances[0]


@pytest.mark.parametrize(("examples", "share", "added"), [(80, 0.2, 20), (10, 0.5, 10), (10, 0.2, 3)])
def test_safe_texts_make_their_share(examples: int, share: float, added: int) -> None:
    texts = tree_of_examples(3, examples)
    mixed = interleaved(texts, SAFE, share, 5)
    safe = [t.example_id for t in mixed if t.example_id.startswith("safe/")]
    assert (mixed[:examples], len(safe), added_texts(examples, share)) == (texts, added, added)
    assert len(set(safe)) == added  # also where a text is used twice
    assert interleaved(texts, SAFE, share, 5) == mixed


def test_the_worked_example() -> None:
    text = tree_of_examples(5, 1)[0]
    packed = guard_pass(KlGuard((text,), 2.0, 1), [text], 2)
    labels, predictors = len(text.ids) - text.start, packed.base.predictors
    base = torch.log(torch.tensor([[0.5, 0.5]])).repeat(predictors, 1)
    adapters = torch.log(torch.tensor([[0.5, 0.5], [0.8, 0.2]])).repeat_interleave(predictors, dim=0)
    each = divergences(base, adapters, packed.rows)
    expected = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    assert each.tolist() == pytest.approx([0.0] * labels + [expected] * labels, abs=1e-6)
    assert expected == pytest.approx(0.223, abs=5e-4)
    assert float((each * packed.rows.label_weight).sum()) == pytest.approx(2 * expected, rel=1e-5)
