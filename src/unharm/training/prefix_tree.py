r"""Pack examples that share prefixes into one tree per adapter.

Every distinct prefix of a row's examples is computed once. A token attends only to the earlier tokens of
its own example, at the position it would have if the example stood alone. Losses and gradients therefore
equal those of a padded batch, up to rounding.

Worked example. Three examples with the prompt `A B` and the answers `C D`, `C E` and `F`. Padded they take
12 places; as a tree they are six tokens::

    A --- B --- C --- D      A B C D
    0     1 \   2 \   3
             \     E          A B C E        the numbers are positions:
              \    3                         D and E both stand at 3, F and C at 2
               F             A B F
               2

Tokens that predict a label (here B and C) go to the end of the row, so that the model computes logits for
the last two columns alone::

    ids          A  D  E  F  B  C
    positions    0  3  3  2  1  2
    predictors               ^  ^     B predicts C (twice) and F; C predicts D and E

Who attends to whom: each example adds one block, which holds its new tokens as queries and its whole path
as keys::

    example      queries    keys           allowed
    A B C D      A B C D    A B C D        lower triangle
    A B C E      E          A B C E        all four
    A B F        F          A B F          all three

Blocks of similar length are padded to one shape, a bucket, and attend in one batched product. Checked by
`tests/training/test_prefix_tree_example.py`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from unharm.core.models.transfer import staged
from unharm.training.tokens import Tokens

BLOCKS_PER_BUCKET = 2
"""Aim at this many blocks per bucket: more buckets mean less padding, but more kernel calls."""
MAX_BUCKETS = 4
"""Upper bound on the number of buckets of one forward pass."""


@dataclass(frozen=True)
class WeightedExample:
    """An example of a step, with the weight of each of its label tokens in the loss."""

    tokens: Tokens
    weight: float


@dataclass
class PrefixTree:
    """The prefix tree of one row.

    Attributes:
        ids: Token ids, each distinct prefix once.
        depth: The position of each token in its example.
        paths: Per example, the tree's numbers of all its tokens.
        new: Per example, the tokens that earlier examples did not have.
        labels: (number of the predicting token, label id, weight) of every label.
    """

    ids: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    paths: list[np.ndarray] = field(default_factory=list)
    new: list[range] = field(default_factory=list)
    labels: list[tuple[int, int, float]] = field(default_factory=list)


@dataclass
class Bucket:
    """Blocks of similar length, padded to the longest. Places count tokens in the flattened rows.

    Attributes:
        queries: Places of the new tokens [blocks, q].
        keys: Places of the tokens on the example's path [blocks, k].
        reach: Number of the last key that each query may attend to [blocks, q].
        query_positions: Positions of the queries [blocks, q].
        key_positions: Positions of the keys [blocks, k].
    """

    queries: Any
    keys: Any
    reach: Any
    query_positions: Any
    key_positions: Any
    _bias: dict[Any, Any] = field(default_factory=dict, init=False)
    _places: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict, init=False)

    @property
    def allowed(self) -> Any:
        """Whether a query may attend to a key [blocks, q, k]."""
        keys = torch.arange(self.keys.shape[1], device=self.keys.device)
        return keys <= self.reach[:, :, None]

    def places(self, heads: int, key_heads: int) -> tuple[Any, Any]:
        """Return the places of queries [blocks, heads, q] and keys [blocks, heads, k] in rows × heads.

        Each key head is shared by `heads // key_heads` query heads.
        """
        if (heads, key_heads) not in self._places:
            head = torch.arange(heads, device=self.queries.device)[:, None]
            self._places[heads, key_heads] = (
                self.queries[:, None] * heads + head,
                self.keys[:, None] * key_heads + head // (heads // key_heads),
            )
        return self._places[heads, key_heads]

    def bias(self, dtype: Any, window: int | None) -> Any:
        """Return the attention bias [blocks, 1, q, k]: 0 where allowed, else minus infinity."""
        if (dtype, window) not in self._bias:
            allowed = self.allowed
            if window is not None:  # padding keeps its only key
                near = self.query_positions[:, :, None] - self.key_positions[:, None] < window
                near[:, :, 0] |= self.reach == 0
                allowed = allowed & near
            zero = torch.zeros((), dtype=dtype, device=allowed.device)
            self._bias[dtype, window] = torch.where(allowed, zero, -torch.inf).to(dtype)[:, None]
        return self._bias[dtype, window]


@dataclass
class PackedBatch:
    """The input of one forward pass: one row per adapter.

    Attributes:
        ids: Token ids [rows, length].
        positions: Position ids [rows, length].
        buckets: The attention blocks of all rows.
        gather: Where each token stands among the queries of all buckets [3, rows × length]: the first query
            of its block, its number in the block, the padded length of the block.
        predictors: The last columns of each row, which hold the tokens that predict a label.
        label_row: Per label, the row of the logits that predicts it, of rows × predictors.
        label: Per label, its token id.
        label_weight: Per label, its weight in the loss.
        label_adapter: Per label, the adapter (row) it belongs to.
        tokens: Number of tokens without padding.
        joined: Where a staged batch has all its whole numbers; else None.
    """

    ids: Any
    positions: Any
    buckets: list[Bucket]
    gather: Any
    predictors: int
    label_row: Any
    label: Any
    label_weight: Any
    label_adapter: Any
    tokens: int
    joined: Any = None
    _outputs: dict[int, Any] = field(default_factory=dict, init=False)

    def outputs(self, heads: int) -> Any:
        """Return where each output [rows × length × heads] lies among those of all buckets."""
        if heads not in self._outputs:
            first, number, length = self.gather[:, :, None]
            head = torch.arange(heads, device=self.gather.device)
            self._outputs[heads] = (first * heads + head * length + number).flatten()
        return self._outputs[heads]

    def staged(self, device: Any) -> PackedBatch:
        """Return the batch with all its whole numbers in one block of memory, ready to be copied."""
        joined = torch.cat([tensor.flatten() for tensor in self._whole_numbers()])
        return self._with(staged(joined, device), staged(self.label_weight, device))

    def to(self, device: Any) -> PackedBatch:
        """Return the batch on another device. Does not wait for the copy of a staged batch."""
        if self.joined is None:
            return self if self.ids.device == device else self.staged(device).to(device)
        joined, weight = (x.to(device, non_blocking=True) for x in (self.joined, self.label_weight))
        return self._with(joined, weight)

    def _whole_numbers(self) -> list[Any]:
        """Return all tensors of whole numbers, in the order of a staged batch."""
        whole = [self.ids, self.positions, self.gather, self.label_row, self.label, self.label_adapter]
        return whole + [getattr(bucket, name) for bucket in self.buckets for name in _BUCKET]

    def _with(self, joined: Any, label_weight: Any) -> PackedBatch:
        """Return the batch with the whole numbers of `joined`."""
        own = self._whole_numbers()
        parts = joined.split([tensor.numel() for tensor in own])
        views = [part.view(tensor.shape) for part, tensor in zip(parts, own, strict=True)]
        ids, positions, gather, label_row, label, label_adapter = views[:6]
        size = len(_BUCKET)
        buckets = [Bucket(*views[i : i + size]) for i in range(6, len(views), size)]
        return PackedBatch(
            ids, positions, buckets, gather, self.predictors, label_row, label, label_weight,
            label_adapter, self.tokens, joined,
        )  # fmt: skip


_BUCKET = ("queries", "keys", "reach", "query_positions", "key_positions")


def common_prefix_length(first: array[int], second: array[int]) -> int:
    """Return the length of the longest common prefix."""
    shortest = min(len(first), len(second))
    if first[:shortest] == second[:shortest]:
        return shortest
    return next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)


def _build_tree(examples: Sequence[WeightedExample]) -> PrefixTree:
    """Build the tree of one row. Sorted examples differ from their neighbour as late as possible."""
    tree = PrefixTree()
    previous = array("i")
    path = np.empty(0, dtype=np.int64)
    for example in sorted(examples, key=lambda e: e.tokens.ids):
        ids, start = example.tokens.ids, example.tokens.start
        shared = common_prefix_length(previous, ids)
        first = len(tree.ids)
        new = range(first, first + len(ids) - shared)
        path = np.concatenate([path[:shared], np.arange(new.start, new.stop)])
        tree.ids += ids[shared:]
        tree.depth += range(shared, len(ids))
        if new:
            tree.paths.append(path)
            tree.new.append(new)
        tree.labels += [
            (int(path[i - 1]), label, example.weight) for i, label in enumerate(ids[start:], start)
        ]
        previous = ids
    return tree


def _placeholder_tree() -> PrefixTree:
    """Return a tree of one token without labels, for a row that has no examples in this pass."""
    return PrefixTree([0], [0], [np.zeros(1, dtype=np.int64)], [range(1)])


def pack(rows: Sequence[Sequence[WeightedExample]]) -> PackedBatch:
    """Pack the examples of each adapter into the input of one forward pass. A row may be empty.

    Tokens that predict a label stand at the end of each row, padding before them.
    """
    trees = [_build_tree(row) if row else _placeholder_tree() for row in rows]
    predicting = [np.unique(np.array([p for p, _, _ in t.labels], dtype=np.int64)) for t in trees]
    predictors = max(1, *map(len, predicting))
    length = predictors + max(len(t.ids) - len(p) for t, p in zip(trees, predicting, strict=True))
    ids = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.zeros_like(ids)
    row_places, labels = [], []
    for row, (tree, predictor_numbers) in enumerate(zip(trees, predicting, strict=True)):
        place_of = np.empty(len(tree.ids), dtype=np.int64)
        is_predictor = np.zeros(len(tree.ids), dtype=bool)
        is_predictor[predictor_numbers] = True
        place_of[~is_predictor] = np.arange(len(tree.ids) - len(predictor_numbers))
        place_of[is_predictor] = np.arange(length - len(predictor_numbers), length)
        ids[row, place_of], positions[row, place_of] = tree.ids, tree.depth
        row_places.append(place_of + row * length)
        first_predictor = length - predictors
        labels += [(row * predictors + place_of[p] - first_predictor, y, w, row) for p, y, w in tree.labels]
    gather = np.ones((3, ids.size), dtype=np.int64) * [[0], [0], [1]]
    buckets = list(_buckets(trees, row_places, positions.ravel(), gather))
    for row, place_of in enumerate(row_places):  # padding reads its own row: adapters stay independent
        padding = np.setdiff1d(np.arange(row * length, (row + 1) * length), place_of)
        gather[:, padding] = gather[:, place_of[:1]]
    label_row, label, weight, adapter = zip(*labels, strict=True) if labels else ((), (), (), ())
    return PackedBatch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        buckets,
        torch.from_numpy(gather),
        predictors,
        torch.tensor(label_row, dtype=torch.long),
        torch.tensor(label, dtype=torch.long),
        torch.tensor(weight, dtype=torch.float32),
        torch.tensor(adapter, dtype=torch.long),
        sum(len(t.ids) for t, row in zip(trees, rows, strict=True) if row),
    )


def _buckets(
    trees: list[PrefixTree], places: list[np.ndarray], positions: np.ndarray, gather: np.ndarray
) -> Iterator[Bucket]:
    """Sort the blocks of all rows by length into buckets. Fills `gather` on the way."""
    blocks = [
        (place[new.start : new.stop], place[path])
        for tree, place in zip(trees, places, strict=True)
        for new, path in zip(tree.new, tree.paths, strict=True)
    ]
    blocks.sort(key=lambda block: (len(block[0]), len(block[1])))
    count = min(MAX_BUCKETS, max(1, len(blocks) // BLOCKS_PER_BUCKET))
    cuts = [round(i * len(blocks) / count) for i in range(count + 1)]
    offset = 0
    for first, last in pairwise(cuts):
        bucket = _bucket(blocks[first:last], positions)
        width = bucket.queries.shape[1]
        for number, (queries, _) in enumerate(blocks[first:last]):
            gather[0, queries] = offset + number * width
            gather[1:, queries] = np.arange(len(queries)), np.full(len(queries), width)
        offset += bucket.queries.numel()
        yield bucket


def _bucket(blocks: list[tuple[np.ndarray, np.ndarray]], positions: np.ndarray) -> Bucket:
    """Pad blocks (query places, key places) to one shape."""
    most_queries, most_keys = (max(len(block[i]) for block in blocks) for i in (0, 1))
    queries = np.zeros((len(blocks), most_queries), dtype=np.int64)
    keys = np.zeros((len(blocks), most_keys), dtype=np.int64)
    reach = np.zeros_like(queries)  # the last key that a query may see; padding sees one key
    for number, (new_places, path) in enumerate(blocks):
        queries[number], keys[number] = new_places[0], path[0]
        queries[number, : len(new_places)], keys[number, : len(path)] = new_places, path
        reach[number, : len(new_places)] = len(path) - len(new_places) + np.arange(len(new_places))
    numbers = (queries, keys, reach, positions[queries], positions[keys])
    return Bucket(*map(torch.from_numpy, numbers))
