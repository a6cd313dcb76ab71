"""Tests of `unharm.training.stack_size`."""

from __future__ import annotations

import pytest

from support.stack_helpers import model_of
from support.stacks import job
from unharm.core.models.peft_folder import Lora
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack


def test_the_size_of_a_stack_follows_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from unharm.training import stack_size as memory

    stack, jobs, recipe = Stack(model_of("llama"), Lora(), 1), [job(1)], Recipe(batch=8)
    one = memory.bytes_per_adapter(stack, jobs, recipe, 4096, False)
    assert memory.bytes_per_adapter(stack, jobs, recipe, 4096, True) < one
    assert memory.bytes_per_adapter(stack, jobs, recipe, 20, False) < one
    for free, expected in ((0, 1), (one, 1), (7 * one, 3), (10**15, memory.MAX_STACK["cpu"])):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        assert memory.stack_size(stack, jobs, recipe, 4096, False) == expected
    monkeypatch.undo()
    assert memory.free_memory(stack.weights.device) > 0
