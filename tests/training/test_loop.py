"""Stacked training equals plain PEFT and torch, whatever it is stacked with and wherever it resumes."""

from __future__ import annotations

import gc
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.stack_helpers import model_of, padded_loss, peft_of
from support.stacks import job, tiny_model, trained, tree_of_examples
from unharm.core.errors import UserError
from unharm.core.models.peft_folder import Lora
from unharm.training.attention import label_logits, packing
from unharm.training.loop import OutOfMemory, TrainingCallbacks, initial_state, train_stack
from unharm.training.loss import label_losses
from unharm.training.prefix_tree import WeightedExample
from unharm.training.schedule import split_rows, steps_of
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import TrainingState

RECIPE = Recipe(lr=1e-3, epochs=13, batch=8)  # 52 steps
SHORT = RECIPE.model_copy(update={"epochs": 6})  # 24 steps


@pytest.mark.parametrize("accelerator", [False, True])
def test_stacked_adapters_equal_those_trained_alone(accelerator: bool) -> None:
    """Different data, different numbers of steps; 52 steps; dropout included, also drawn on the device.

    Without dropout: `test_a_diverging_adapter_stops_and_spares_the_rest`.
    """
    model, lora = model_of("llama"), Lora(r=4, dropout=0.2, targets=["q_proj", "v_proj", "up_proj"])
    jobs = [job(1), job(2, count=19), job(3, valid=0)]
    _, together = trained(model, jobs, lora, RECIPE, accelerator=accelerator)
    for k, own in enumerate(jobs):
        _, alone = trained(model, [own], lora, RECIPE, accelerator=accelerator)
        assert float((together.weights[k] - alone.weights[0]).norm() / alone.weights[0].norm()) < 1e-5
        assert float((together.best[k] - alone.best[0]).norm() / alone.best[0].norm()) < 1e-5
        assert together.curves[k].best_epoch == alone.curves[0].best_epoch
        assert together.curves[k].valid == pytest.approx(alone.curves[0].valid, rel=1e-5)


def plain_peft(
    model: Any, own: Any, stack: Stack, recipe: Recipe, epochs: int | None = None
) -> dict[str, torch.Tensor]:
    """Plain PEFT and torch.optim.AdamW on the same batches; stopped after `epochs`, if given."""
    adapted = peft_of(model, stack, stack.initial_weights(own.seed))
    weights = [p for p in adapted.parameters() if p.requires_grad]
    steps_per_epoch = -(-len(own.train) // (recipe.batch * recipe.accumulate))
    total = recipe.epochs * steps_per_epoch
    optimiser = torch.optim.AdamW(weights, lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    for epoch in range(epochs or recipe.epochs):
        for group in steps_of(own, recipe, epoch):
            for batch in group:
                (padded_loss(adapted, batch) / len(group)).backward()
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    return {
        n.replace(".default.", "."): p.detach() for n, p in adapted.named_parameters() if p.requires_grad
    }


@pytest.mark.parametrize(
    ("recipe", "batch", "accumulate", "row_tokens"),
    [(RECIPE, 8, 1, 4096), (SHORT, 1, 8, 4096), (SHORT, 4, 2, 40)],
)
def test_our_adapter_equals_plain_peft(
    recipe: Recipe, batch: int, accumulate: int, row_tokens: int
) -> None:
    """52 or 24 steps on the same batches; a step may be made in one pass or, with few `row_tokens`, in parts."""
    recipe = recipe.model_copy(update={"batch": batch, "accumulate": accumulate})
    model, lora, own = model_of("qwen3"), Lora(r=4, dropout=0.0), job(1, valid=0)
    stack, state = trained(model, [own], lora, recipe, row_tokens=row_tokens)
    theirs = plain_peft(model, own, stack, recipe)
    ours = stack.peft_tensors(state.best[0])
    assert set(ours) == set(theirs)
    ours_flat, theirs_flat = (torch.cat([x[n].flatten() for n in sorted(x)]) for x in (ours, theirs))
    assert float((ours_flat - theirs_flat).norm() / theirs_flat.norm()) < 1e-4


def test_an_epoch_equals_plain_peft_that_stops_there() -> None:
    """The learning rate falls towards the end of all epochs, not towards that of the one that is kept."""
    recipe = SHORT
    model, lora, own = model_of("llama"), Lora(r=4, dropout=0.0), job(1, valid=0)
    weights: dict[int, torch.Tensor] = {}
    watch = TrainingCallbacks(epoch=lambda s: weights.update({s.epoch: s.weights[0].clone()}))
    stack, _ = trained(model, [own], lora, recipe, watch)
    theirs = plain_peft(model, own, stack, recipe, epochs=4)
    ours = stack.peft_tensors(weights[4])
    ours_flat, theirs_flat = (torch.cat([x[n].flatten() for n in sorted(x)]) for x in (ours, theirs))
    assert float((ours_flat - theirs_flat).norm() / theirs_flat.norm()) < 1e-4


def test_resumed_equals_uninterrupted_bit_by_bit(tmp_path: Path) -> None:
    model, lora, jobs = model_of("gemma2"), Lora(r=4, dropout=0.3), [job(1), job(2, count=27)]
    states: list[bytes] = []
    watch = TrainingCallbacks(save=lambda state: states.append(state.to_bytes()))
    stack, whole = trained(model, jobs, lora, SHORT, watch)
    assert len(states) == 6 * 4
    for number in (0, 6, 15, 23):  # the first step, one in an epoch, the last of an epoch and of all
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(states[number])
        _, resumed = trained(model, jobs, lora, SHORT, state=TrainingState.read(path, stack.size))
        assert torch.equal(resumed.weights, whole.weights)
        assert torch.equal(resumed.best, whole.best)
        assert resumed.curves == whole.curves


class Ended(Exception):
    """Ends a training where it stands."""


def test_an_epoch_is_that_of_a_run_that_stopped_there(tmp_path: Path) -> None:
    """Bit by bit, with the schedule of all epochs; also where it is resumed in between."""
    model, lora, jobs = model_of("llama"), Lora(r=4, dropout=0.2), [job(1), job(2, count=27)]
    recipe = Recipe(lr=1e-3, epochs=5, batch=8)
    weights: dict[int, torch.Tensor] = {}
    saved: dict[tuple[int, int], bytes] = {}
    watch = TrainingCallbacks(
        save=lambda s: saved.update({(s.epoch, s.step): s.to_bytes()}),
        epoch=lambda s: weights.update({s.epoch: s.weights.clone()}),
    )
    stack, whole = trained(model, jobs, lora, recipe, watch)
    assert list(weights) == [1, 2, 3, 4, 5]
    assert torch.equal(weights[5], whole.weights)
    last: list[torch.Tensor] = []

    def stop(state: TrainingState) -> None:
        if state.epoch == 3:
            last.append(state.weights.clone())
            raise Ended

    with pytest.raises(Ended):
        trained(model, jobs, lora, recipe, TrainingCallbacks(epoch=stop))
    path = tmp_path / "state.safetensors"
    path.write_bytes(saved[2, 1])
    with pytest.raises(Ended):
        state = TrainingState.read(path, stack.size)
        trained(model, jobs, lora, recipe, TrainingCallbacks(epoch=stop), state=state)
    assert [torch.equal(weights[3], w) for w in last] == [True, True]
    assert not torch.equal(weights[3], weights[2])


def test_a_diverging_adapter_stops_and_spares_the_rest() -> None:
    model, lora = model_of("llama"), Lora(r=4, dropout=0.0)
    jobs = [job(1), job(2), job(3)]
    stack = Stack(model, lora, 3)
    jobs[1].start = torch.full((stack.size,), torch.nan)
    told: list[str] = []
    _, state = trained(model, jobs, lora, SHORT, TrainingCallbacks(say=told.append))
    assert told == ["adapter 2: training stopped, the loss is not a finite number in epoch 1, step 1"]
    assert [bool(c.stopped) for c in state.curves] == [False, True, False]
    for k in (0, 2):
        _, alone = trained(model, [jobs[k]], lora, SHORT)
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
    _, whole = trained(model, jobs, lora, SHORT)
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
        trained(model, jobs, lora, SHORT, state=state)
    assert (state.epoch, state.step) != (0, 0)
    halves = state.halves()
    assert [h.keys for h in halves] == [["0", "1"], ["2", "3"]]
    for number, half in enumerate(halves):
        _, ended = trained(model, jobs[2 * number : 2 * number + 2], lora, SHORT, state=half)
        expected = whole.best[2 * number : 2 * number + 2]
        assert float((ended.best - expected).norm() / expected.norm()) < 1e-5
    calls = 22
    with pytest.raises(UserError, match="no memory to train a single adapter"):
        trained(model, jobs[:1], lora, SHORT)


def test_the_failed_pass_is_freed_before_anybody_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for the halves is there only if nothing holds on to the graph of the pass that failed."""
    from unharm.training import loop

    activations: list[weakref.ref[torch.Tensor]] = []

    def full(logits: torch.Tensor, packed: Any) -> torch.Tensor:
        activations.append(weakref.ref(logits))
        if len(activations) == 3:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate")
        return label_losses(logits, packed)

    monkeypatch.setattr(loop, "label_losses", full)
    model, jobs = model_of("llama"), [job(1, key="1"), job(2, key="2")]
    stack = Stack(model, Lora(r=4, dropout=0.1), 2)
    state = initial_state(stack, jobs)
    gc.disable()
    try:
        with packing(model), stack.attached(), pytest.raises(OutOfMemory) as caught:
            train_stack(stack, state, jobs, RECIPE, 4096, TrainingCallbacks(), ahead=True)
        assert [seen() for seen in activations] == [None, None, None]
    finally:
        gc.enable()
    assert caught.value.__context__ is None
    assert (state.epoch, state.step) == (0, 2)
    assert len(state.curves[0].train) == 2  # the losses of the steps before were read
    halves = state.halves()
    assert all(half.weights.data_ptr() != state.weights.data_ptr() for half in halves)
    assert [half.keys for half in halves] == [["1"], ["2"]]


def test_losses_read_late_are_the_same() -> None:
    """With the next step prepared in a thread, an adapter that diverges does not touch the others."""
    model, lora = model_of("llama"), Lora(r=4, dropout=0.1)
    jobs = [job(1), job(2, count=27), job(3)]
    jobs[2].start = torch.full((Stack(model, lora, 1).size,), torch.nan)
    points: dict[bool, list[Any]] = {False: [], True: []}
    states = {}
    for late, seen in points.items():
        callbacks = TrainingCallbacks(point=lambda *point, seen=seen: seen.append(point))
        stack = Stack(model, lora, 3)
        states[late] = initial_state(stack, jobs)
        with packing(model), stack.attached():
            train_stack(stack, states[late], jobs, SHORT, 4096, callbacks, ahead=late)
    assert len(points[False]) == len(points[True]) > 50
    for one, other in zip(points[False], points[True], strict=True):
        assert one[:3] == other[:3]
        assert one[3] == pytest.approx(other[3], rel=1e-4)
    assert [c.stopped for c in states[True].curves] == [c.stopped for c in states[False].curves]
    assert states[True].curves[2].stopped.endswith("in epoch 1, step 1")
    difference = (states[True].best[:2] - states[False].best[:2]).norm() / states[False].best[:2].norm()
    assert float(difference) < 1e-5


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
    examples = [WeightedExample(t, 1.0) for t in tree_of_examples(seed, count)]
    parts = split_rows(examples, row_tokens)
    assert [e for part in parts for e in part] == examples
    for part in parts:  # an example that is too long for a row has one of its own
        size = sum(len(e.tokens.ids) for e in part)
        assert size <= max(row_tokens, len(part[0].tokens.ids))
    for part, following in pairwise(parts):
        assert sum(len(e.tokens.ids) for e in [*part, following[0]]) > row_tokens
