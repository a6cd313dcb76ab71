"""How many adapters fit beside each other, from free memory and the shape of the base."""

from __future__ import annotations

from unharm.core.models.memory import free_memory
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob

SHARE = 0.5
"""The share of free memory that is planned for; what is freed and taken again needs some besides."""


MAX_STACK = {"cpu": 8, "cuda": 64}
"""Beyond these, stacking more gives no more speed: matrix products are large enough."""


def stack_size(
    stack: Stack, jobs: list[AdapterJob], recipe: Recipe, row_tokens: int, checkpointing: bool
) -> int:
    """How many adapters like `jobs` to train at a time; `stack` tells their shape."""
    device = stack.weights.device
    own = bytes_per_adapter(stack, jobs, recipe, row_tokens, checkpointing)
    fitting = int(SHARE * free_memory(device) / own)
    return max(1, min(fitting, MAX_STACK.get(device.type, 8)))


def bytes_per_adapter(
    stack: Stack, jobs: list[AdapterJob], recipe: Recipe, row_tokens: int, checkpointing: bool
) -> int:
    """An estimate from above: weights, gradients, moments and copies, and the activations of the
    largest pass that could come, without any shared prefix."""
    config = stack.model.config.get_text_config()
    width = stack.model.dtype.itemsize
    examples = recipe.batch * recipe.accumulate
    largest = [sorted((len(t.ids) for t in j.train), reverse=True)[:examples] for j in jobs]
    labels = [sorted((len(t.ids) - t.start for t in j.train), reverse=True)[:examples] for j in jobs]
    longest = max((x[0] for x in largest if x), default=0)
    most = max(row_tokens, longest)
    tokens, predictors = (min(most, max(map(sum, x), default=0)) for x in (largest, labels))
    per_layer = 14 * config.hidden_size + 5 * getattr(config, "intermediate_size", 4 * config.hidden_size)
    scores = 3 * config.num_attention_heads * longest
    layers = config.num_hidden_layers
    if checkpointing:
        activations = tokens * (layers * config.hidden_size + per_layer + scores)
    else:
        activations = tokens * layers * (per_layer + scores)
    return int(activations * width + predictors * config.vocab_size * (2 * width + 8) + 10 * stack.size * 4)
