"""Measure this machine: matrix products, copies, and the time to start an operation."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

MATRIX = {"cuda": 8192, "cpu": 1024}
"""Rows of the square matrices that are multiplied and copied."""
LAUNCHES = 500
"""Operations that are started in a row."""


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of a large matrix product."""
    size = MATRIX["cuda" if device.startswith("cuda") else "cpu"]
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / seconds_per_call(lambda: a @ a, device) / 1e12


def copy_rate(device: str, dtype: torch.dtype) -> float:
    """Return the GB/s of a large copy, reading and writing counted."""
    size = MATRIX["cuda" if device.startswith("cuda") else "cpu"]
    a = torch.randn(size, size, device=device, dtype=dtype)
    copied = torch.empty_like(a)
    return 2 * a.numel() * a.element_size() / seconds_per_call(lambda: copied.copy_(a), device) / 1e9


def launch_seconds(device: str) -> float:
    """Return the seconds that the host needs per small operation: what bounds a small batch on a GPU."""
    a = torch.zeros(8, device=device)

    def many() -> None:
        for _ in range(LAUNCHES):
            a.add_(1)

    return seconds_per_call(many, device, least=0.1) / LAUNCHES


def seconds_per_call(do: Callable[[], object], device: str, least: float = 0.5) -> float:
    """Return the seconds per call, measured over at least `least` seconds after one call to warm up."""

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    do()
    wait()
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < least:
        do()
        calls += 1
        wait()
    return (time.perf_counter() - began) / calls
