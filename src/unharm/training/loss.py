"""The loss of packed rows: cross-entropy at label positions, with a weight for every label."""

from __future__ import annotations

from typing import Any

import torch

from unharm.training.prefix_tree import PackedBatch


class SharedRowCrossEntropy(torch.autograd.Function):
    """Cross-entropy [labels] in nats of `label` after the logits `row`; keeps one float32 tensor of
    the logits' size, whatever their type and however many labels share a row."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        logs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
        ctx.save_for_backward(row, label)
        ctx.logs, ctx.dtype = logs, logits.dtype
        return -logs[row, label]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        row, label = ctx.saved_tensors
        chances, ctx.logs = ctx.logs.exp_(), None  # in place: a second backward is not needed
        chances.mul_(torch.zeros_like(chances[:, 0]).index_add_(0, row, grad)[:, None])
        chances.index_put_((row, label), -grad, accumulate=True)
        return chances.to(ctx.dtype), None, None


def label_losses(logits: torch.Tensor, packed: PackedBatch) -> torch.Tensor:
    """Cross-entropy [labels] of every label of the packed rows."""
    out: torch.Tensor = SharedRowCrossEntropy.apply(logits, packed.label_row, packed.label)  # type: ignore[no-untyped-call]
    return out


def per_adapter(values: torch.Tensor, packed: PackedBatch, adapters: int) -> torch.Tensor:
    """Sums [adapters] of one number per label."""
    zeros = torch.zeros(adapters, dtype=torch.float64, device=values.device)
    return zeros.index_add_(0, packed.label_adapter, values.double())
