"""Attend over cached keys and values with unmodified transformers models.

Scores, weights and sums of each part of the keys (blocks of own places, the shared prefix) are computed
separately and merged::

    part 1    largest m1, sum of weights s1, weighted values v1
    part 2    largest m2, sum of weights s2, weighted values v2
    both      m = max(m1, m2),  s = s1·e^(m1-m) + s2·e^(m2-m),  v likewise;  output = v / s

Blocks make every number of a row the same whatever its neighbours are. A pass that need not be `exact`
takes all own places as one part, and torch's fused kernel where there is no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from unharm.core.models.transformers import check_arguments, unplanned_attention
from unharm.engines.kv_cache import BLOCK, TILE, ForwardPass, Prefix

NAME = "unharm_cells"

PartialSoftmax = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""For some of the keys: the largest score, the sum of weights, and the weighted sum of values."""


def cached_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    forward_pass: ForwardPass,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention over cached keys and values.

    Args:
        module: The attention module that calls.
        query: [1, heads, tokens, width].
        key: [1, key heads, tokens, width].
        value: [1, key heads, tokens, width].
        attention_mask: Ignored; `forward_pass` says who attends to whom.
        forward_pass: The rows of this pass.
        scaling: Factor of the scores; 1 / √width if None.
        sliding_window: Number of positions that a token sees, itself included.
        softcap: Bound of the scores, as in Gemma 2.

    Returns:
        The output [1, tokens, heads, width], and None for the attention weights.

    Raises:
        UserError: An argument is unknown, so the result could be wrong.
    """
    check_arguments(module, others, "the hf engine", "serve this model and use the engine openai")
    heads, key_heads, width = query.shape[1], key.shape[1], query.shape[3]
    count, length, group = forward_pass.count, forward_pass.length, heads // key_heads
    scale = width**-0.5 if scaling is None else scaling
    keys, values = forward_pass.write(module.layer_idx, key, value)
    if not (forward_pass.exact or forward_pass.groups) and softcap is None:
        rows = forward_pass.pad_rows(query).reshape(count, key_heads, group * length, width)
        bias = forward_pass.bias(sliding_window, group, query.dtype)
        fused = scaled_dot_product_attention(rows, keys, values, attn_mask=bias, scale=scale)
        return forward_pass.unpad_rows(fused.reshape(count, heads, length, width)).contiguous(), None
    rows = forward_pass.pad_rows(query * scale)
    grouped = rows.reshape(count, key_heads, group, length, width)
    mask = forward_pass.causal_mask(sliding_window)
    size = BLOCK if forward_pass.exact else forward_pass.places
    merged = _attend(grouped, keys[:, :, :size], values[:, :, :size], softcap, mask[..., :size])
    for start in range(size, forward_pass.places, size):
        block = slice(start, start + size)
        partial = _attend(grouped, keys[:, :, block], values[:, :, block], softcap, mask[..., block])
        merged = _merge(merged, partial)
    for prefix, members in forward_pass.groups:
        all_rows = len(members) == forward_pass.count
        member_queries = grouped if all_rows else grouped[members]
        outside = (
            None if sliding_window is None else forward_pass.window_mask(members, prefix, sliding_window)
        )
        partial = _attend_to_prefix(member_queries, prefix, module.layer_idx, softcap, outside)
        without_prefix: PartialSoftmax = merged if all_rows else tuple(x[members] for x in merged)  # type: ignore[assignment]
        with_prefix = _merge(without_prefix, partial)
        if all_rows:
            merged = with_prefix
        else:
            for target, new in zip(merged, with_prefix, strict=True):
                target[members] = new
    out = (merged[2] / merged[1]).to(query.dtype).view(forward_pass.count, heads, forward_pass.length, -1)
    return forward_pass.unpad_rows(out).contiguous(), None


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    softcap: float | None,
    hidden: torch.Tensor | None,
) -> PartialSoftmax:
    """Attend to some of the keys.

    Args:
        query: [rows, key heads, group, length, width].
        keys: [rows, key heads, places, width].
        values: [rows, key heads, places, width].
        softcap: Bound of the scores.
        hidden: Places that a query must not see; broadcast to [rows, key heads, group, length, places].
    """
    rows, shared, group, length, width = query.shape
    scores = torch.matmul(query.reshape(rows, shared, group * length, width), keys.transpose(2, 3))
    scores = scores.float().view(rows, shared, group, length, -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if hidden is not None:
        scores = scores.masked_fill_(hidden, -torch.inf)
    largest = scores.amax(dim=-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).min)
    weights = scores.sub_(largest).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    out = torch.matmul(weights.view(rows, shared, group * length, -1).to(values.dtype), values)
    return largest, total, out.float().view(rows, shared, group, length, -1)


def _attend_to_prefix(
    query: torch.Tensor, prefix: Prefix, layer: int, softcap: float | None, outside: torch.Tensor | None
) -> PartialSoftmax:
    """Attend from all rows to one prefix, with one product per key head instead of one per row."""
    rows, shared, group, length, width = query.shape
    keys, values = (x[:1, :, : prefix.length] for x in prefix.cache.layers[layer])
    flat = query.permute(1, 0, 2, 3, 4).reshape(1, shared, 1, rows * group * length, width)
    missing = TILE - flat.shape[3]
    if missing > 0:
        flat = torch.nn.functional.pad(flat, (0, 0, 0, missing))
    if outside is not None:
        outside = outside.expand(rows, 1, group, length, -1).reshape(1, 1, 1, -1, prefix.length)
        outside = torch.nn.functional.pad(outside, (0, 0, 0, max(0, missing)))
    return tuple(  # type: ignore[return-value]
        x[0, :, 0, : rows * group * length].view(shared, rows, group, length, -1).permute(1, 0, 2, 3, 4)
        for x in _attend(flat, keys, values, softcap, outside)
    )


def _merge(first: PartialSoftmax, second: PartialSoftmax) -> PartialSoftmax:
    """Merge two partial softmax results into that over both sets of keys."""
    largest = torch.maximum(first[0], second[0])
    scale_1, scale_2 = (first[0] - largest).exp(), (second[0] - largest).exp()
    return largest, first[1] * scale_1 + second[1] * scale_2, first[2] * scale_1 + second[2] * scale_2


AttentionInterface.register(NAME, cached_attention)


@contextmanager
def using_cache(model: Any) -> Iterator[None]:
    """Make the model attend over cached rows inside the context."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        with unplanned_attention():
            yield
    finally:
        model.set_attn_implementation(before)
