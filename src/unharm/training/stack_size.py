"""Decide how many adapters to train at a time.

On a CPU an upper bound on the bytes of an adapter is computed, which needs no measurement. On an
accelerator two trial steps on the longest examples, with one adapter and with two, show what one more
adapter takes. The bound is several times that, since examples share prefixes and memory is used again
within a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from unharm.core.models.memory import free_memory, largest
from unharm.core.models.peft_folder import Lora
from unharm.training.loop import StackTraining, TrainingCallbacks, initial_state, within_memory
from unharm.training.preference import reference_key
from unharm.training.schedule import Schedule
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob

SHARE = 0.5
"""Share of the free memory to plan for by the bound. The allocator needs the rest for fragments."""
MEASURED_SHARE = 0.85
"""Share of the free memory to plan for by measurement."""
GROWTH = 1.1
"""A size that failed is tried again where there is this many times the free memory there was."""

MAX_STACK = {"cpu": 8, "cuda": 64}
"""Largest stack by device. Beyond it matrix products are large enough and more adapters gain no speed."""

Peak = Callable[[Callable[[], None]], int]
"""Does some work and returns the most bytes that it held at a time."""


@dataclass(frozen=True)
class Need:
    """Bytes that a stack takes: `fixed`, and `each` for every adapter."""

    fixed: int
    each: int

    def fitting(self, free: float) -> int:
        """Return how many adapters fit into so many bytes."""
        return int((free - self.fixed) / max(1, self.each))


@dataclass
class StackSizes:
    """The sizes of the stacks of one process. They follow what was measured and what failed.

    Attributes:
        recipes: What was measured, by recipe.
        limit: Largest size since memory ran out; 0 if it never did.
        failed: The size that failed, and the bytes that were free then.
    """

    recipes: dict[str, Need] = field(default_factory=dict)
    limit: int = 0
    failed: tuple[int, int] | None = None

    def size(self, need: Need, recipe: Recipe, device: torch.device) -> int:
        """Return how many adapters to train at a time.

        Args:
            need: The bound on what they take, for a recipe that was not measured.
            recipe: How they are trained.
            device: Where.
        """
        free = free_memory(device)
        if self.failed and free > GROWTH * self.failed[1]:
            self.limit, self.failed = 0, None
        measured = self.recipes.get(recipe.model_dump_json())
        fits = measured.fitting(MEASURED_SHARE * free) if measured else need.fitting(SHARE * free)
        return self.within_limit(max(1, min(fits, MAX_STACK.get(device.type, 8))))

    def within_limit(self, size: int) -> int:
        """Return a size within the limit."""
        return min(size, self.limit) if self.limit else size

    def measured(self, recipe: Recipe) -> bool:
        """Return whether the need of a recipe was measured."""
        return recipe.model_dump_json() in self.recipes

    def note_need(self, recipe: Recipe, need: Need) -> None:
        """Take note of what a trial showed."""
        self.recipes[recipe.model_dump_json()] = need

    def note_trained(self, recipe: Recipe, size: int, peak: int) -> None:
        """Take note of a stack that was trained. The limit grows back towards the size that failed.

        Args:
            recipe: How it was trained.
            size: Number of adapters.
            peak: Most bytes that it held at a time; 0 where that cannot be measured.
        """
        need = self.recipes.get(recipe.model_dump_json())
        if need and peak > need.fixed:
            self.note_need(recipe, Need(need.fixed, -(-(peak - need.fixed) // size)))
        if self.failed and self.limit and size >= self.limit:
            self.limit = max(self.limit, min(self.limit + max(1, self.limit // 2), self.failed[0] - 1))

    def note_failed(self, size: int, device: torch.device) -> None:
        """Take note of a stack that did not fit. The next ones have half its size."""
        self.failed = size, free_memory(device)
        self.limit = max(1, -(-size // 2))


def bound(
    stack: Stack, jobs: list[AdapterJob], recipe: Recipe, row_tokens: int, checkpointing: bool
) -> Need:
    """Return an upper bound on the bytes that adapters need.

    Counts weights, gradients, moments and copies, and the activations of the largest possible pass
    without shared prefixes.

    Args:
        stack: A stack of the same shape; only its shape is read.
        jobs: Typical adapters to train.
        recipe: How they are trained.
        row_tokens: Most tokens of one row of a forward pass.
        checkpointing: Whether activations are recomputed in the backward pass.
    """
    config = stack.model.config.get_text_config()
    width = stack.model.dtype.itemsize
    examples = recipe.batch * recipe.accumulate * recipe.texts
    lengths = [sorted((len(t.ids) for t in j.train), reverse=True)[:examples] for j in jobs]
    label_counts = [sorted((len(t.ids) - t.start for t in j.train), reverse=True)[:examples] for j in jobs]
    longest_example = max((x[0] for x in lengths if x), default=0)
    row_limit = max(row_tokens, longest_example)
    tokens, predictors = (min(row_limit, max(map(sum, x), default=0)) for x in (lengths, label_counts))
    per_layer = 14 * config.hidden_size + 5 * largest(config, "intermediate_size", 4 * config.hidden_size)
    scores = 3 * largest(config, "num_attention_heads", 1) * longest_example
    layers = config.num_hidden_layers
    if checkpointing:
        activations = tokens * (layers * config.hidden_size + per_layer + scores)
    else:
        activations = tokens * layers * (per_layer + scores)
    each = activations * width + predictors * config.vocab_size * (2 * width + 8) + 10 * stack.size * 4
    return Need(0, int(each))


def measure(model: Any, lora: Lora, job: AdapterJob, recipe: Recipe, row_tokens: int, peak: Peak) -> Need:
    """Return what stacks take, from trial steps with one adapter and with two.

    The steps train on the longest examples of `job`, and their weights are thrown away. The base must be
    inside `packing`.

    Raises:
        UserError: A single adapter does not fit.
        OutOfMemory: Two adapters do not fit.
    """
    one, two = (peak(partial(trial, model, lora, job, recipe, row_tokens, n)) for n in (1, 2))
    each = max(1, two - one)
    return Need(max(0, one - each), each)


def trial(model: Any, lora: Lora, job: AdapterJob, recipe: Recipe, row_tokens: int, adapters: int) -> None:
    """Do one step on the longest examples of an adapter, with several copies of it."""
    size = recipe.batch * recipe.texts
    longest = sorted(job.train, key=lambda t: len(t.ids), reverse=True)[: size * recipe.accumulate]
    longest = longest[: len(longest) // recipe.texts * recipe.texts]
    group = [longest[i : i + size] for i in range(0, len(longest), size)]
    jobs, stack = [job] * adapters, Stack(model, lora, adapters)
    reference = {reference_key(t): 0.0 for t in longest}
    schedule = Schedule(jobs, recipe, row_tokens, stack.weights.device, False, reference)
    state = initial_state(stack, jobs)
    state.move_to(stack.weights)
    training = StackTraining(stack, state, jobs, recipe, schedule, TrainingCallbacks(), late=False)
    with stack.attached():
        within_memory(training, lambda: training.step(schedule.prepare(0, 0, [group] * adapters)))


def peak_of(device: torch.device) -> Peak | None:
    """Return how to measure the memory of work on a device; None where that cannot be measured."""
    if device.type != "cuda":
        return None

    def peak(work: Callable[[], None]) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return int(torch.cuda.max_memory_allocated(device) - before)

    return peak
