"""Keys and values of many rows at a time, and attention over them, for the models of transformers as
they are.

A row is one text that is being continued. Its own tokens stand in the cells from place 0 on; what
several rows have in common at their beginning is a prefix, held once (as in Juravsky et al., 2024,
"Hydragen"). Attention over a row's own cells and over its prefix is computed apart and joined by the
sums of both, so every number of a row depends on that row alone: on a CPU in float32 the logits are the
same bit by bit whatever stands beside it.
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
"""Lengths of prompts are rounded up to multiples of this, and no product has fewer rows: matrix
libraries treat small shapes in ways of their own, with other rounding."""
BLOCK = 32
"""Own places are attended to in blocks of this size, so that no sum depends on how many there are."""


def round_up(number: int, size: int = TILE) -> int:
    """The next multiple of `size`, at least one."""
    return max(1, -(-number // size)) * size


class KeyValueCache:
    """Keys and values per layer, [rows, key heads, places, width]; grows as it is needed."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.rows = self.places = 0

    def reserve(self, rows: int, places: int) -> None:
        """Makes room; what is there stays."""
        if rows <= self.rows and places <= self.places:
            return
        self.rows = max(self.rows, rows, min(2 * self.rows, rows + 256))
        self.places = max(self.places, round_up(places, BLOCK))
        for layer, pair in self.layers.items():
            self.layers[layer] = (self._grown(pair[0]), self._grown(pair[1]))

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_zeros(self.rows, old.shape[1], self.places, old.shape[3])
        new[: old.shape[0], :, : old.shape[2]] = old
        return new

    def layer_tensors(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer not in self.layers:
            self.layers[layer] = (
                key.new_zeros(self.rows, key.shape[1], self.places, key.shape[3]),
                value.new_zeros(self.rows, value.shape[1], self.places, value.shape[3]),
            )
        return self.layers[layer]

    def copy_rows(self, sources: torch.Tensor, targets: torch.Tensor, places: int) -> None:
        """Rows `targets` become what rows `sources` are, up to `places`."""
        for pair in self.layers.values():
            for held in pair:
                held[targets, :, :places] = held[sources, :, :places]


@dataclass(frozen=True)
class Prefix:
    """The beginning that rows share: cells with one row, `length` of whose places are filled."""

    cache: KeyValueCache
    length: int


@dataclass
class ForwardPass:
    """What attention has to know of one forward pass over some tokens of `count` rows of `cells`, from
    row `first` on. The tokens of all rows stand in one sequence, without padding.

    `rows` [tokens] is the row of each token within the pass, `queries` [tokens] its number among the
    tokens of its row here (`length` at most); `starts` [count] is the place of a row's first one among
    its own tokens. `places` is how many own places are looked at (whole blocks); `offsets` [count] the
    length of each row's prefix; `groups` the prefixes with the rows that begin with them.
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
        return len(self.starts)

    @property
    def positions(self) -> torch.Tensor:
        """The position of every token in its text [1, tokens]."""
        return ((self.offsets + self.starts)[self.rows] + self.queries)[None]

    def write(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores the new keys and values [1, heads, tokens, width]; gives those of all places."""
        at = self.starts[self.rows] + self.queries
        found = []
        for whole, new in zip(self.cache.layer_tensors(layer, key, value), (key, value), strict=True):
            whole[self.first + self.rows, :, at] = new[0].transpose(0, 1)
            found.append(whole[self.first : self.first + self.count, :, : self.places])
        return found[0], found[1]

    def pad_rows(self, query: torch.Tensor) -> torch.Tensor:
        """From [1, heads, tokens, width] to [count, heads, length, width], zero where there is none."""
        if self.length == 1:
            return query[0].transpose(0, 1)[:, :, None]
        apart = query.new_zeros(self.count, query.shape[1], self.length, query.shape[3])
        apart[self.rows, :, self.queries] = query[0].transpose(0, 1)
        return apart

    def unpad_rows(self, out: torch.Tensor) -> torch.Tensor:
        """From [count, heads, length, width] back to [1, tokens, heads, width]."""
        return (out[:, :, 0] if self.length == 1 else out[self.rows, :, self.queries])[None]

    def causal_mask(self, window: int | None) -> torch.Tensor:
        """Which own places a query must not see [count, 1, 1, length, places]."""
        if window not in self._masks:
            queries = self.starts[:, None] + torch.arange(self.length, device=self.starts.device)
            keys = torch.arange(self.places, device=self.starts.device)
            mask = keys > queries[..., None]
            if window is not None:
                mask |= keys <= queries[..., None] - window
            self._masks[window] = mask[:, None, None]
        return self._masks[window]

    def window_mask(self, members: torch.Tensor, prefix: Prefix, window: int) -> torch.Tensor:
        """Which places of a prefix are beyond the window of its members' queries."""
        queries = (self.offsets + self.starts)[members][:, None]
        queries = queries + torch.arange(self.length, device=members.device)
        places = torch.arange(prefix.length, device=members.device)
        return (places <= queries[..., None] - window)[:, None, None]


PartialSoftmax = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of one part of the keys: the largest score, the sum of weights, and the weighted values."""


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
    """Shapes: `query` [1, heads, tokens, width], `key` and `value` with their own number of heads;
    gives [1, tokens, heads, width]. Raises `UserError` for arguments that it does not know."""
    check_arguments(module, others, "the hf engine", "serve this model and use the engine openai")
    heads, shared, width = query.shape[1], key.shape[1], query.shape[3]
    scale = width**-0.5 if scaling is None else scaling
    rows = forward_pass.pad_rows(query * scale)
    grouped = rows.reshape(forward_pass.count, shared, heads // shared, forward_pass.length, width)
    keys, values = forward_pass.write(module.layer_idx, key, value)
    hidden = forward_pass.causal_mask(sliding_window)
    whole = _attend(grouped, keys[:, :, :BLOCK], values[:, :, :BLOCK], softcap, hidden[..., :BLOCK])
    for start in range(BLOCK, forward_pass.places, BLOCK):
        own = slice(start, start + BLOCK)
        part = _attend(grouped, keys[:, :, own], values[:, :, own], softcap, hidden[..., own])
        whole = _merge(whole, part)
    for prefix, members in forward_pass.groups:
        everyone = len(members) == forward_pass.count
        asked = grouped if everyone else grouped[members]
        outside = (
            None if sliding_window is None else forward_pass.window_mask(members, prefix, sliding_window)
        )
        part = _attend_to_prefix(asked, prefix, module.layer_idx, softcap, outside)
        before: PartialSoftmax = whole if everyone else tuple(x[members] for x in whole)  # type: ignore[assignment]
        joined = _merge(before, part)
        if everyone:
            whole = joined
        else:
            for target, new in zip(whole, joined, strict=True):
                target[members] = new
    out = (whole[2] / whole[1]).to(query.dtype).view(forward_pass.count, heads, forward_pass.length, -1)
    return forward_pass.unpad_rows(out).contiguous(), None


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    softcap: float | None,
    hidden: torch.Tensor | None,
) -> PartialSoftmax:
    """`query` [rows, key heads, group, length, width] over `keys` [rows, key heads, places, width]."""
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
    """All rows against one prefix: one product per key head instead of one per row."""
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


def _merge(one: PartialSoftmax, other: PartialSoftmax) -> PartialSoftmax:
    """Softmax over both parts, from each part's own."""
    largest = torch.maximum(one[0], other[0])
    left, right = (one[0] - largest).exp(), (other[0] - largest).exp()
    return largest, one[1] * left + other[1] * right, one[2] * left + other[2] * right


AttentionInterface.register(NAME, cached_attention)


@contextmanager
def using_cache(model: Any) -> Iterator[None]:
    """The model attends over cells inside, and as before outside."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
