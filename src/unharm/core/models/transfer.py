"""Copy numbers to an accelerator and back without waiting for it.

A copy from ordinary memory makes the processor wait until the accelerator has done all its work. Copies
from pinned memory, and results that are read one step late, let it prepare the next step meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def staged(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of this machine in memory from which `device` can fetch it."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of this machine on `device`. Does not wait for the copy."""
    return staged(tensor, device).to(device, non_blocking=True)


def column(numbers: Sequence[Any], device: torch.device, dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Return numbers as a tensor on `device`. Does not wait for the copy."""
    return to_device(torch.tensor(numbers, dtype=dtype), device)


def together(columns: Sequence[Sequence[int]], device: torch.device) -> list[torch.Tensor]:
    """Return several columns of whole numbers as tensors on `device`, in one copy."""
    joined = column([number for numbers in columns for number in numbers], device)
    return list(torch.split(joined, [len(numbers) for numbers in columns]))


class Readback:
    """Numbers on their way from an accelerator. The copy starts at once; reading waits for it.

    Args:
        tensor: The numbers, on any device.
    """

    def __init__(self, tensor: torch.Tensor):
        self._event: torch.cuda.Event | None = None
        self._tensor = tensor
        if tensor.is_cuda:
            self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensor.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> Any:
        """Return the numbers as nested lists."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor.tolist()
