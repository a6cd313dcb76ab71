"""Cross-entropy at the label positions of packed rows."""

from __future__ import annotations

from typing import Any

import torch

from unharm.training.prefix_tree import PackedBatch


class SharedRowCrossEntropy(torch.autograd.Function):
    """Cross-entropy in nats, where several labels may share one row of logits.

    Keeps a single float32 tensor of the size of the logits for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, row: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the loss [labels] of token `label` under the logits of `row`."""
        logs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
        ctx.save_for_backward(row, label)
        ctx.logs, ctx.dtype = logs, logits.dtype
        return -logs[row, label]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Return the gradient of the logits: Σ grad · (softmax - one-hot label) over labels of a row."""
        row, label = ctx.saved_tensors
        probabilities, ctx.logs = ctx.logs.exp_(), None  # in place: there is only one backward pass
        probabilities.mul_(torch.zeros_like(probabilities[:, 0]).index_add_(0, row, grad)[:, None])
        probabilities.index_put_((row, label), -grad, accumulate=True)
        return probabilities.to(ctx.dtype), None, None


def label_losses(logits: torch.Tensor, packed: PackedBatch) -> torch.Tensor:
    """Return the cross-entropy [labels] in nats, from logits [rows × predictors, vocabulary]."""
    out: torch.Tensor = SharedRowCrossEntropy.apply(logits, packed.label_row, packed.label)  # type: ignore[no-untyped-call]
    return out


def per_adapter(values: torch.Tensor, adapter: torch.Tensor, adapters: int) -> torch.Tensor:
    """Sum numbers by the adapter of each [adapters], in float64."""
    zeros = torch.zeros(adapters, dtype=torch.float64, device=values.device)
    return zeros.index_add_(0, adapter, values.double())
