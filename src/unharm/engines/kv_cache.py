"""Cache keys and values of many rows, and describe the passes that read and write them.

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

from dataclasses import dataclass, field
from itertools import accumulate

import torch

from unharm.core.models.transfer import together

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

    Args:
        limit: Most places of all rows together, unless a single call of `reserve` asks for more; None for
            no limit.

    Attributes:
        layers: The pair of keys and values of every layer that has written.
        rows: Number of rows allocated.
        places: Number of places allocated per row.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.rows = self.places = 0
        self.limit = limit

    @property
    def size(self) -> int:
        """Number of places of all rows together."""
        return self.rows * self.places

    def reserve(self, rows: int, places: int) -> None:
        """Make room for so many rows and places. What is cached in them stays.

        Rows and places beyond are given up where they would exceed the limit: few long rows may follow many
        short ones.
        """
        limit = 1 << 60 if self.limit is None else self.limit
        if rows <= self.rows and places <= self.places and self.size <= limit:
            return
        places = round_up(places, BLOCK)
        ample = max(self.rows, rows, min(2 * self.rows, rows + 256))
        wide = max(self.places, places)
        if rows * wide <= limit:
            self.rows, self.places = min(ample, limit // wide), wide
        else:
            self.rows, self.places = max(rows, min(ample, limit // places)), places
        for layer, pair in self.layers.items():
            self.layers[layer] = (self._resized(pair[0]), self._resized(pair[1]))

    def clear(self) -> None:
        """Give up all rows."""
        self.layers.clear()
        self.rows = self.places = 0

    def _resized(self, old: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the new size with the same beginning."""
        new = old.new_zeros(self.rows, old.shape[1], self.places, old.shape[3])
        rows, places = min(self.rows, old.shape[0]), min(self.places, old.shape[2])
        new[:rows, :, :places] = old[:rows, :, :places]
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
                part = held[:, :, :places]
                part.index_copy_(0, targets, part.index_select(0, sources))


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
        exact: Whether no number of a row may depend on the other rows, bit by bit. That takes several times
            as many operations, so the default is a CPU alone.
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
    exact: bool | None = None
    _masks: dict[int | None, torch.Tensor] = field(default_factory=dict, init=False)
    _biases: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict, init=False)
    _targets: tuple[torch.Tensor, torch.Tensor] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.exact is None:
            self.exact = self.starts.device.type == "cpu"

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
        if self._targets is None:
            self._targets = self.first + self.rows, self.starts[self.rows] + self.queries
        rows, places = self._targets
        stored = []
        for cached, new in zip(self.cache.layer_tensors(layer, key, value), (key, value), strict=True):
            cached[rows, :, places] = new[0].transpose(0, 1)
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

    def bias(self, window: int | None, group: int, dtype: torch.dtype) -> torch.Tensor:
        """Return what to add to scores [count, 1, group · length, places]: 0, or minus infinity for own
        places that a query must not see. With one query a row, one line serves the whole group."""
        lines = 1 if self.length == 1 else group
        if (window, lines) not in self._biases:
            hidden = self.causal_mask(window).expand(-1, -1, lines, -1, -1).flatten(2, 3)
            zeros = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._biases[window, lines] = zeros.masked_fill_(hidden, -torch.inf)
        return self._biases[window, lines]

    def window_mask(self, members: torch.Tensor, prefix: Prefix, window: int) -> torch.Tensor:
        """Return the places of a prefix that are outside the sliding window of its members [members, 1, 1,
        length, places]."""
        queries = (self.offsets + self.starts)[members][:, None]
        queries = queries + torch.arange(self.length, device=members.device)
        places = torch.arange(prefix.length, device=members.device)
        return (places <= queries[..., None] - window)[:, None, None]


def prompt_pass(
    cache: KeyValueCache,
    first: int,
    texts: list[list[int]],
    offsets: torch.Tensor,
    groups: list[tuple[Prefix, torch.Tensor]],
    exact: bool | None = None,
) -> tuple[ForwardPass, torch.Tensor, torch.Tensor]:
    """Return the pass that reads whole texts into the rows from `first` on.

    All tokens form one sequence. A sequence shorter than `TILE` is padded with the last token of the first
    text, written to the same place again.

    Args:
        cache: Where keys and values go.
        first: The row of the first text.
        texts: Token ids of each text, without its prefix.
        offsets: Length of the prefix of each text [texts].
        groups: Prefixes, each with the texts that begin with it, counted from `first`.
        exact: See `ForwardPass`; by default on a CPU alone.

    Returns:
        The pass, its tokens [1, tokens], and the place of each text's last token among them [texts].
    """
    sizes = [len(text) for text in texts]
    last = [end - 1 for end in accumulate(sizes)]
    order = [*range(sum(sizes)), *[last[0]] * max(0, TILE - sum(sizes))]
    row_of = [row for row, size in enumerate(sizes) for _ in range(size)]
    number_of = [number for size in sizes for number in range(size)]
    token_of = [token for text in texts for token in text]
    columns = [[numbers[place] for place in order] for numbers in (row_of, number_of, token_of)]
    rows, queries, tokens, ends = together([*columns, last], offsets.device)
    forward_pass = ForwardPass(
        cache, first, rows, queries, round_up(max(sizes)), torch.zeros_like(offsets),
        round_up(max(sizes), BLOCK), offsets, groups, exact,
    )  # fmt: skip
    return forward_pass, tokens[None], ends
