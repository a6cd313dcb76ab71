"""Estimate how many adapters fit into memory at a time."""

from __future__ import annotations

from unharm.core.models.memory import free_memory
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob

SHARE = 0.5
"""Share of the free memory to plan for. The allocator needs the rest for fragments."""

MAX_STACK = {"cpu": 8, "cuda": 64}
"""Largest stack by device. Beyond it matrix products are large enough and more adapters gain no speed."""


def stack_size(
    stack: Stack, jobs: list[AdapterJob], recipe: Recipe, row_tokens: int, checkpointing: bool
) -> int:
    """Return how many adapters like `jobs` to train at a time.

    Args:
        stack: A stack of the same shape; only its shape is read.
        jobs: Typical adapters to train.
        recipe: How they are trained.
        row_tokens: Most tokens of one row of a forward pass.
        checkpointing: Whether activations are recomputed in the backward pass.
    """
    device = stack.weights.device
    bytes_each = bytes_per_adapter(stack, jobs, recipe, row_tokens, checkpointing)
    fits = int(SHARE * free_memory(device) / bytes_each)
    return max(1, min(fits, MAX_STACK.get(device.type, 8)))


def bytes_per_adapter(
    stack: Stack, jobs: list[AdapterJob], recipe: Recipe, row_tokens: int, checkpointing: bool
) -> int:
    """Return an upper bound on the bytes that one more adapter needs.

    Counts weights, gradients, moments and copies, and the activations of the largest possible pass
    without shared prefixes.
    """
    config = stack.model.config.get_text_config()
    width = stack.model.dtype.itemsize
    examples = recipe.batch * recipe.accumulate
    lengths = [sorted((len(t.ids) for t in j.train), reverse=True)[:examples] for j in jobs]
    label_counts = [sorted((len(t.ids) - t.start for t in j.train), reverse=True)[:examples] for j in jobs]
    longest_example = max((x[0] for x in lengths if x), default=0)
    row_limit = max(row_tokens, longest_example)
    tokens, predictors = (min(row_limit, max(map(sum, x), default=0)) for x in (lengths, label_counts))
    per_layer = 14 * config.hidden_size + 5 * getattr(config, "intermediate_size", 4 * config.hidden_size)
    scores = 3 * config.num_attention_heads * longest_example
    layers = config.num_hidden_layers
    if checkpointing:
        activations = tokens * (layers * config.hidden_size + per_layer + scores)
    else:
        activations = tokens * layers * (per_layer + scores)
    return int(activations * width + predictors * config.vocab_size * (2 * width + 8) + 10 * stack.size * 4)
