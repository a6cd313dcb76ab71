"""AdamW with a linear decay for stacked adapters (Loshchilov and Hutter, 2019, algorithm 2)."""

from __future__ import annotations

import torch

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""The usual constants, which are torch's and the published ones."""


def adamw_step(
    weights: torch.Tensor,
    grads: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    steps: torch.Tensor,
    rates: torch.Tensor,
    weight_decay: float,
    active: torch.Tensor,
) -> None:
    """One step in place on `weights` [K, size] with the moments `first` and `second`.

    `steps` [K] counts the steps of each adapter, this one included; `rates` [K] are their
    learning rates. Where `active` [K] is false nothing changes, whatever the gradients hold.
    Everything is computed before anything is written, so that a lack of memory leaves all as it was.
    """
    active, rates = active[:, None], rates[:, None].double()
    correct_1, correct_2 = (1 - beta ** steps[:, None].double() for beta in (BETA_1, BETA_2))
    new_first = first.lerp(grads, 1 - BETA_1)
    new_second = (second * BETA_2).addcmul_(grads, grads, value=1 - BETA_2)
    bottom = (new_second.sqrt() / correct_2.sqrt().to(weights.dtype)).add_(EPSILON)
    change = (rates / correct_1).to(weights.dtype) * new_first / bottom
    new_weights = weights * (1 - rates * weight_decay).to(weights.dtype) - change
    for old, new in ((weights, new_weights), (first, new_first), (second, new_second)):
        torch.where(active, new, old, out=old)


def linear_rate(rate: float, done: int, total: int) -> float:
    """The learning rate of the step after `done` of `total`: from `rate` down to 0, no warm-up."""
    return rate * (1 - done / total)
