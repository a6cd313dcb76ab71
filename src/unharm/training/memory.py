"""How many adapters fit beside each other, and how many tokens: from free memory and the base's shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from unharm.training.lockstep import Job
from unharm.training.recipe import Recipe
from unharm.training.stacked import Stack

SHARE = 0.5
"""The share of free memory that is planned for; what is freed and taken again needs some besides."""
MOST = {"cpu": 8, "cuda": 64}
"""Beyond these, stacking more gives no more speed: matrix products are large enough."""


def stack_size(stack: Stack, jobs: list[Job], recipe: Recipe, row_tokens: int, checkpointing: bool) -> int:
    """How many adapters like `jobs` to train at a time; `stack` tells their shape."""
    device = stack.weights.device
    own = bytes_per_adapter(stack, jobs, recipe, row_tokens, checkpointing)
    fitting = int(SHARE * free_memory(device) / own)
    return max(1, min(fitting, MOST.get(device.type, 8)))


def bytes_per_adapter(
    stack: Stack, jobs: list[Job], recipe: Recipe, row_tokens: int, checkpointing: bool
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


def tokens_that_fit(model: Any, share: float) -> int:
    """How many tokens' keys and values fit into a share of the free memory; at least one."""
    config = model.config.get_text_config()
    all_heads = getattr(config, "num_attention_heads", None) or 1
    heads = getattr(config, "num_key_value_heads", None) or all_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // all_heads
    each = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    return max(1, int(share * free_memory(model.device) / each))


def free_memory(device: Any) -> int:
    """Free bytes: of the accelerator, or of this machine within its control group's limit."""
    if device.type == "cuda":
        import torch

        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    bounds = [int(psutil.virtual_memory().available)]
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            bounds.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(0, min(bounds))


def keep_freed_memory() -> None:
    """Asks the C library to keep what is freed: large tensors come and go in every step, and
    fetching their pages from the system anew each time costs a tenth of the speed on a CPU.
    Only where glibc is at hand."""
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(mmap_threshold, 1 << 25)  # the most that it takes
        libc.mallopt(trim_threshold, 1 << 30)
    except (OSError, AttributeError):
        return
