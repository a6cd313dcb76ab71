"""Cache keys and values of many rows, and attend over them with unmodified transformers models.

A row is one text that is being continued. Its own tokens are cached at the places 0, 1, 2 …. A prefix that
several rows have in common is cached once (as in Juravsky et al., 2024, "Hydragen"). Attention over a row's
own places and over its prefix is computed separately and merged from the partial softmax sums. Every number
of a row depends on that row alone: on a CPU in float32 its logits are the same bit by bit whatever other
rows are in the batch.

Worked example. Three rows with 2, 3 and 4 cached tokens (`.` is an empty place)::

    place     0  1  2  3
    row 0     a  b  .  .
    row 1     c  d  e  .      <- its last sample has ended: a gap
    row 2     f  g  h  i

The last row is copied into the gap, and the number of rows falls to two. Nothing is erased::

    row 0     a  b  .  .
    row 1     f  g  h  i
    row 2     f  g  h  i      <- no longer in use; the next prompt overwrites it

`copy_rows(sources=[2], targets=[1], places=4)` does this. A token attends to the places up to its own, so a
leftover key behind them is never read. The example is checked by
`tests/engines/test_kv_cache_example.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface

from unharm.core.models.transformers import check_arguments

NAME = "unharm_cells"
TILE = 16
"""Round the lengths of prompts up to a multiple of this, and give no matrix product fewer rows. Matrix
libraries have special code for small shapes, which rounds differently."""
BLOCK = 32
"""Attend to own places in blocks of this size, so that no sum depends on the number of blocks."""


def round_up(number: int, size: int = TILE) -> int:
    """Return the next multiple of `size`, at least `size`."""
    return max(1, -(-number // size)) * size


class KeyValueCache:
    """Keys and values per layer, each [rows, key heads, places, width]. Grows when needed.

    Attributes:
        layers: The pair of keys and values of every layer that has written.
        rows: Number of rows allocated.
        places: Number of places allocated per row.
    """

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.rows = self.places = 0

    def reserve(self, rows: int, places: int) -> None:
        """Make room for so many rows and places. What is cached stays."""
        if rows <= self.rows and places <= self.places:
            return
        self.rows = max(self.rows, rows, min(2 * self.rows, rows + 256))
        self.places = max(self.places, round_up(places, BLOCK))
        for layer, pair in self.layers.items():
            self.layers[layer] = (self._grown(pair[0]), self._grown(pair[1]))

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        """Return a larger tensor with the same beginning."""
        new = old.new_zeros(self.rows, old.shape[1], self.places, old.shape[3])
        new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def layer_tensors(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of a layer. Allocates them on first use, shaped like `key` and
        `value`."""
        if layer not in self.layers:
            self.layers[layer] = (
                key.new_zeros(self.rows, key.shape[1], self.places, key.shape[3]),
                value.new_zeros(self.rows, value.shape[1], self.places, value.shape[3]),
            )
        return self.layers[layer]

    def copy_rows(self, sources: torch.Tensor, targets: torch.Tensor, places: int) -> None:
        """Copy the first `places` places of the rows `sources` to the rows `targets`."""
        for pair in self.layers.values():
            for held in pair:
                held[targets, :, :places] = held[sources, :, :places]


@dataclass(frozen=True)
class Prefix:
    """The shared beginning of several rows: a cache with one row, of which `length` places are filled."""

    cache: KeyValueCache
    length: int


@dataclass
class ForwardPass:
    """What attention needs to know about one forward pass.

    The tokens of all rows form one sequence without padding.

    Attributes:
        cache: Where keys and values are stored.
        first: The first row of the cache in this pass.
        rows: Row of each token, counted from `first` [tokens].
        queries: Number of each token among the new tokens of its row [tokens].
        length: Most new tokens of a row, rounded up.
        starts: Place of the first new token of each row [count].
        places: Number of own places to attend to; a multiple of `BLOCK`.
        offsets: Length of the prefix of each row [count].
        groups: Prefixes, each with the rows that begin with it.
    """

    cache: KeyValueCache
    first: int
    rows: torch.Tensor
    queries: torch.Tensor
    length: int
    starts: torch.Tensor
    places: int
    offsets: torch.Tensor
    groups: list[tuple[Prefix, torch.Tensor]]
    _masks: dict[int | None, torch.Tensor] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.starts)

    @property
    def positions(self) -> torch.Tensor:
        """Position of every token in its text [1, tokens]."""
        return ((self.offsets + self.starts)[self.rows] + self.queries)[None]

    def write(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values.

        Args:
            layer: Number of the layer.
            key: [1, key heads, tokens, width].
            value: [1, key heads, tokens, width].

        Returns:
            Keys and values of all own places [count, key heads, places, width].
        """
        places = self.starts[self.rows] + self.queries
        stored = []
        for cached, new in zip(self.cache.layer_tensors(layer, key, value), (key, value), strict=True):
            cached[self.first + self.rows, :, places] = new[0].transpose(0, 1)
            stored.append(cached[self.first : self.first + self.count, :, : self.places])
        return stored[0], stored[1]

    def pad_rows(self, query: torch.Tensor) -> torch.Tensor:
        """Spread [1, heads, tokens, width] over rows [count, heads, length, width], zero where a row is
        shorter."""
        if self.length == 1:
            return query[0].transpose(0, 1)[:, :, None]
        padded = query.new_zeros(self.count, query.shape[1], self.length, query.shape[3])
        padded[self.rows, :, self.queries] = query[0].transpose(0, 1)
        return padded

    def unpad_rows(self, out: torch.Tensor) -> torch.Tensor:
        """Undo `pad_rows`: from [count, heads, length, width] to [1, tokens, heads, width]."""
        return (out[:, :, 0] if self.length == 1 else out[self.rows, :, self.queries])[None]

    def causal_mask(self, window: int | None) -> torch.Tensor:
        """Return the own places that a query must not see [count, 1, 1, length, places]."""
        if window not in self._masks:
            queries = self.starts[:, None] + torch.arange(self.length, device=self.starts.device)
            keys = torch.arange(self.places, device=self.starts.device)
            mask = keys > queries[..., None]
            if window is not None:
                mask |= keys <= queries[..., None] - window
            self._masks[window] = mask[:, None, None]
        return self._masks[window]

    def window_mask(self, members: torch.Tensor, prefix: Prefix, window: int) -> torch.Tensor:
        """Return the places of a prefix that are outside the sliding window of its members [members, 1, 1,
        length, places]."""
        queries = (self.offsets + self.starts)[members][:, None]
        queries = queries + torch.arange(self.length, device=members.device)
        places = torch.arange(prefix.length, device=members.device)
        return (places <= queries[..., None] - window)[:, None, None]


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
    scale = width**-0.5 if scaling is None else scaling
    rows = forward_pass.pad_rows(query * scale)
    grouped = rows.reshape(forward_pass.count, key_heads, heads // key_heads, forward_pass.length, width)
    keys, values = forward_pass.write(module.layer_idx, key, value)
    mask = forward_pass.causal_mask(sliding_window)
    merged = _attend(grouped, keys[:, :, :BLOCK], values[:, :, :BLOCK], softcap, mask[..., :BLOCK])
    for start in range(BLOCK, forward_pass.places, BLOCK):
        block = slice(start, start + BLOCK)
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
        yield
    finally:
        model.set_attn_implementation(before)
