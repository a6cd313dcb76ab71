"""The worked example in the docstring of `training/optimiser.py`."""

from __future__ import annotations

import torch

from unharm.training.optimiser import adamw_step


def test_one_active_adapter_of_two() -> None:
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    grads = torch.tensor([[0.5, -2.0], [9.0, 9.0]])
    first, second = torch.zeros(2, 2), torch.zeros(2, 2)
    adamw_step(
        weights,
        grads,
        first,
        second,
        steps=torch.tensor([1, 1]),
        rates=torch.tensor([0.1, 0.1], dtype=torch.float64),
        weight_decay=0.5,
        active=torch.tensor([True, False]),
    )
    assert torch.allclose(weights, torch.tensor([[0.85, 2.0], [3.0, 4.0]]), atol=1e-6)
    assert torch.allclose(first, torch.tensor([[0.05, -0.2], [0.0, 0.0]]))
    assert torch.allclose(second, torch.tensor([[0.00025, 0.004], [0.0, 0.0]]))
