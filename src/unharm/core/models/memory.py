"""Free memory, and how many tokens fit into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil


def tokens_that_fit(model: Any, share: float) -> int:
    """Return how many tokens' keys and values fit into a share of the free memory; at least one."""
    config = model.config.get_text_config()
    all_heads = largest(config, "num_attention_heads", 1)
    heads = largest(config, "num_key_value_heads", all_heads)
    width = largest(config, "head_dim", config.hidden_size // all_heads)
    bytes_per_token = 2 * config.num_hidden_layers * heads * width * model.dtype.itemsize
    return max(1, int(share * free_memory(model.device) / bytes_per_token))


def largest(config: Any, name: str, default: int) -> int:
    """Return the largest value that a setting of a model has over its layers.

    Some settings are lists by layer (Gemma 3n), others may only be read from the configuration of a layer
    (Gemma 4).
    """
    layers = [config]
    if name in (getattr(config, "per_layer_attributes", None) or ()):
        layers = list(config.per_layer_config)
    values: list[int] = []
    for layer in layers:
        value = getattr(layer, name, None) or default
        values += value if isinstance(value, list | tuple) else [value]
    return max(values)


def free_memory(device: Any) -> int:
    """Return the free bytes of the accelerator, or of this machine within the limit of its control
    group.

    What torch has reserved on the accelerator and does not use counts as free.
    """
    if device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + max(0, unused)
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
    """Ask the C library to keep freed memory.

    Large tensors come and go in every step. Fetching their pages from the system each time costs a tenth
    of the speed on a CPU. Does nothing without glibc.
    """
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
        trim_threshold, mmap_threshold = -1, -3
        libc.mallopt(mmap_threshold, 1 << 25)  # the largest value that glibc accepts
        libc.mallopt(trim_threshold, 1 << 30)
    except (OSError, AttributeError):
        return


def free_device_memory() -> None:
    """Give memory that torch holds without use back to the accelerator."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
