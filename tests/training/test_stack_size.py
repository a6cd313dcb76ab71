"""Tests of `unharm.training.stack_size`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from support.operations import Memory
from support.stack_helpers import model_of
from support.stacks import job
from unharm.core.models.peft_folder import Lora
from unharm.training import stack_size
from unharm.training.attention import packing
from unharm.training.settings import Recipe
from unharm.training.stack_size import MAX_STACK, MEASURED_SHARE, Need, StackSizes, bound, measure
from unharm.training.stacked_lora import Stack

CPU = torch.device("cpu")
RECIPE = Recipe(batch=8)


def free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(stack_size, "free_memory", lambda device: int(size))


def test_the_size_of_a_stack_follows_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    stack, jobs = Stack(model_of("llama"), Lora(), 1), [job(1)]
    most = bound(stack, jobs, RECIPE, 4096, False)
    assert bound(stack, jobs, RECIPE, 4096, True).each < most.each
    assert bound(stack, jobs, RECIPE, 20, False).each < most.each
    for size, expected in ((0, 1), (most.each, 1), (7 * most.each, 3), (10**15, MAX_STACK["cpu"])):
        free(monkeypatch, size)
        assert StackSizes().size(most, RECIPE, CPU) == expected


def peak(work: Callable[[], None]) -> int:
    with Memory() as memory:
        work()
    return memory.peak


def test_a_trial_shows_what_an_adapter_takes() -> None:
    """The measured need predicts the peak of larger stacks; the bound is far above it."""
    model, lora, own = model_of("llama"), Lora(r=4, dropout=0.1), job(1)
    with packing(model):
        need = measure(model, lora, own, RECIPE, 4096, peak)
        five = peak(lambda: stack_size.trial(model, lora, own, RECIPE, 4096, 5))
    assert need.fixed + 5 * need.each == pytest.approx(five, rel=0.1)
    most = bound(Stack(model, lora, 1), [own], RECIPE, 4096, False)
    assert need.each < most.each / 2


def test_a_measured_need_gives_larger_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = StackSizes()
    free(monkeypatch, 2110 / MEASURED_SHARE)
    assert sizes.size(Need(0, 500), RECIPE, CPU) == 2
    assert not sizes.measured(RECIPE)
    sizes.note_need(RECIPE, Need(100, 400))
    assert sizes.measured(RECIPE)
    assert sizes.size(Need(0, 500), RECIPE, CPU) == 5
    sizes.note_trained(RECIPE, 5, 100 + 5 * 250)  # the stack took less than the trial said
    assert sizes.size(Need(0, 500), RECIPE, CPU) == 8
    assert sizes.size(Need(0, 5000), RECIPE.model_copy(update={"batch": 4}), CPU) == 1


def test_the_limit_grows_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, need = StackSizes(), Need(0, 1)
    free(monkeypatch, 1000)
    assert sizes.size(need, RECIPE, CPU) == 8
    sizes.note_failed(8, CPU)
    seen = []
    for _ in range(4):
        seen.append(sizes.size(need, RECIPE, CPU))
        sizes.note_trained(RECIPE, seen[-1], 0)
    assert seen == [4, 6, 7, 7]  # not the size that failed
    sizes.note_failed(7, CPU)
    assert sizes.size(need, RECIPE, CPU) == 4
    free(monkeypatch, 1200)  # somebody else has given memory back
    assert sizes.size(need, RECIPE, CPU) == 8
