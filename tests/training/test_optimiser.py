"""Tests of `unharm.training.optimiser`."""

from __future__ import annotations

import torch

from unharm.training.optimiser import adamw_step


def test_the_optimiser_equals_torch() -> None:
    draw = torch.Generator().manual_seed(2)
    start = torch.randn(3, 40, generator=draw)
    mine, first, second = start.clone(), torch.zeros(3, 40), torch.zeros(3, 40)
    theirs = [torch.nn.Parameter(start[k].clone()) for k in range(3)]
    rates = [1e-2, 3e-3, 0.5]
    optimisers = [
        torch.optim.AdamW([p], lr=lr, weight_decay=0.1) for p, lr in zip(theirs, rates, strict=True)
    ]
    for step in range(1, 31):
        grads = torch.randn(3, 40, generator=draw) * 0.01
        active = torch.tensor([True, step % 3 != 0, True])
        counts = torch.tensor([step, step - step // 3, step])
        for k in range(3):
            if active[k]:
                theirs[k].grad = grads[k].clone()
                optimisers[k].step()
        grads[~active] = torch.nan
        adamw_step(mine, grads, first, second, counts, torch.tensor(rates), 0.1, active)
    assert torch.allclose(mine, torch.stack([p.detach() for p in theirs]), rtol=1e-5, atol=1e-7)
