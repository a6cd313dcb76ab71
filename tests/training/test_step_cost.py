"""What a training step costs on an accelerator, counted on a CPU with the accelerator's settings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from support.operations import Operations
from support.stack_helpers import model_of
from support.stacks import job
from unharm.core.models.peft_folder import Lora
from unharm.training import attention
from unharm.training.attention import packing
from unharm.training.loop import TrainingCallbacks, initial_state, train_stack
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack


@dataclass
class Mark:
    """The counters after a step."""

    operators: int
    waits: int
    copies: int
    copied: int
    tokens: int


def marks_of(adapters: int, name: str = "llama") -> list[Mark]:
    """Train some adapters for an epoch of four steps and return the counters after each step."""
    model, jobs = model_of(name), [job(k, key=str(k)) for k in range(adapters)]
    stack = Stack(model, Lora(r=4, dropout=0.1), adapters)
    stack.counter_masks = True
    state, operations, marks = initial_state(stack, jobs), Operations(), list[Mark]()

    def step(_: int, tokens: int) -> None:
        counts = operations
        marks.append(Mark(counts.total, counts.waits.total(), counts.copies, counts.copied, tokens))

    with packing(model), stack.attached(), operations:
        train_stack(
            stack, state, jobs, Recipe(epochs=1, batch=8), 4096, TrainingCallbacks(step=step), ahead=True
        )
    return marks


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_step_waits_once_at_most(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "fused_kernels", lambda query: True)
    for before, after in pairwise(marks_of(2, name)):
        assert after.waits - before.waits <= 1
        assert after.copies - before.copies <= 5  # layout, label weights, mask keys, schedule; losses
        assert after.copied - before.copied <= 250 * after.tokens


def test_more_adapters_cost_no_more_operators() -> None:
    """One pass serves the whole stack, so the number of kernels does not grow with it."""
    few, many = (marks_of(adapters) for adapters in (2, 6))
    for number in (2, 3):  # buckets of attention are as many
        assert many[number].operators - many[number - 1].operators <= 1.02 * (
            few[number].operators - few[number - 1].operators
        )


def test_waits_are_seen() -> None:
    """The counter itself: each of these makes the processor wait for an accelerator."""
    numbers = torch.arange(6.0)
    with Operations() as operations:
        numbers.sum().item()
        numbers.tolist()
        if bool((numbers > 2).any()):
            numbers[numbers > 2]
        torch.tensor([1, 2], device="cpu")
        torch.bincount(numbers.long())
        before = operations.waits.total()
        numbers.masked_fill_(numbers > 2, 0.0)[torch.tensor([1, 2])] += 1
    assert before == operations.waits.total() == 6
