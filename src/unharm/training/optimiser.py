"""AdamW with linear decay for stacked adapters (Loshchilov and Hutter, 2019, algorithm 2).

Worked example. Two adapters with two weights each. Adapter 1 has no batch in this step, so it is not
active: nothing of it changes, whatever its gradients hold::

    weights          grads            active    steps   rates   weight_decay
    [1.0  2.0]       [0.5  -2.0]      yes       1       0.1     0.5
    [3.0  4.0]       [9.0   9.0]      no        1       0.1     0.5

    first moment     0.1   · grads    = [0.05    -0.2  ]    corrected by 1 - 0.9   = [0.5   -2.0]
    second moment    0.001 · grads²   = [0.00025  0.004]    corrected by 1 - 0.999 = [0.25   4.0]
    change           0.1 · corrected first / √(corrected second) = [0.1  -0.1]
    weights          weights · (1 - 0.1 · 0.5) - change          = [0.85  2.0]

    [0.85  2.0]
    [3.0   4.0]

The example is checked by `tests/training/test_optimiser_example.py`.
"""

from __future__ import annotations

import torch

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""The constants of the paper, which are also the defaults of torch."""


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
    """Update weights and moments in place.

    All results are computed before any is written, so running out of memory leaves everything unchanged.

    Args:
        weights: [adapters, size].
        grads: [adapters, size].
        first: First moments [adapters, size].
        second: Second moments [adapters, size].
        steps: Steps of each adapter, this one included [adapters].
        rates: Learning rate of each adapter [adapters].
        weight_decay: Decoupled weight decay.
        active: Adapters to update [adapters]; the others stay as they are.
    """
    active, rates = active[:, None], rates[:, None].double()
    correction_1, correction_2 = (1 - beta ** steps[:, None].double() for beta in (BETA_1, BETA_2))
    new_first = first.lerp(grads, 1 - BETA_1)
    new_second = (second * BETA_2).addcmul_(grads, grads, value=1 - BETA_2)
    denominator = (new_second.sqrt() / correction_2.sqrt().to(weights.dtype)).add_(EPSILON)
    change = (rates / correction_1).to(weights.dtype) * new_first / denominator
    new_weights = weights * (1 - rates * weight_decay).to(weights.dtype) - change
    for old, new in ((weights, new_weights), (first, new_first), (second, new_second)):
        torch.where(active, new, old, out=old)


def linear_rate(rate: float, done: int, total: int) -> float:
    """Return the learning rate of the step after `done` of `total`: linear from `rate` to 0, no warm-up."""
    return rate * (1 - done / total)
