"""Shared-prefix packing: examples laid out as trees, one row per adapter.

Each distinct prefix of a row's examples stands once. A token attends to the tokens before it in its
own examples and to nothing else, and has the position that it has when its example stands alone, so
that losses and gradients are those of the padded batch up to rounding.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from unharm.training.tokens import Tokens

BLOCKS_PER_BUCKET = 2
"""About so many blocks of queries share one padded shape."""
MAX_BUCKETS = 4


@dataclass(frozen=True)
class WeightedExample:
    """An example of a step and the weight of each of its label tokens in the loss."""

    tokens: Tokens
    weight: float


@dataclass
class PrefixTree:
    """The tree of one row: `ids` and `depth` of every distinct token; for every example its `path`
    (all its tokens) and its `new` ones, a range; `labels` are (token before, label, weight)."""

    ids: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    paths: list[np.ndarray] = field(default_factory=list)
    new: list[range] = field(default_factory=list)
    labels: list[tuple[int, int, float]] = field(default_factory=list)


@dataclass
class Bucket:
    """Blocks of queries of similar length, padded to the longest.

    A block is what one example adds to its tree: `queries` [blocks, q] and the `keys`
    [blocks, k] on its path, as places in the flattened rows; `allowed` [blocks, q, k]; and the
    distance in positions of each query from each key, for sliding windows.
    """

    queries: Any
    keys: Any
    allowed: Any
    distance: Any
    _bias: dict[Any, Any] = field(default_factory=dict, init=False)
    _places: dict[tuple[int, int], tuple[Any, Any]] = field(default_factory=dict, init=False)

    def places(self, heads: int, key_heads: int) -> tuple[Any, Any]:
        """Queries [blocks, heads, q] and keys [blocks, heads, k] as places in the flattened rows ×
        heads of queries and of keys; several heads may share one of the keys."""
        import torch

        if (heads, key_heads) not in self._places:
            head = torch.arange(heads, device=self.queries.device)[:, None]
            self._places[heads, key_heads] = (
                self.queries[:, None] * heads + head,
                self.keys[:, None] * key_heads + head // (heads // key_heads),
            )
        return self._places[heads, key_heads]

    def bias(self, dtype: Any, window: int | None) -> Any:
        """What is added to the attention scores: 0 or minus infinity, [blocks, 1, q, k]."""
        import torch

        if (dtype, window) not in self._bias:
            allowed = self.allowed
            if window is not None:
                allowed = allowed & (self.distance < window)
            zero = torch.zeros((), dtype=dtype, device=allowed.device)
            self._bias[dtype, window] = torch.where(allowed, zero, -torch.inf).to(dtype)[:, None]
        return self._bias[dtype, window]


@dataclass
class PackedBatch:
    """Rows of one forward pass. Shapes: `ids`, `positions` [rows, length]; `gather` [3, rows × length],
    where to find every token among the queries of all buckets: its block's first query, its number
    in the block, the block's length; the last `predictors` columns hold
    the tokens that predict a label. Of each label: `label_row` (place among rows × predictors),
    `label`, `label_weight` and `label_adapter` (the row it belongs to)."""

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
    _outputs: dict[int, Any] = field(default_factory=dict, init=False)

    def outputs(self, heads: int) -> Any:
        """Where the output of every token and head [rows × length × heads] lies among those of all
        buckets, each [blocks, heads, q]."""
        import torch

        if heads not in self._outputs:
            first, number, length = self.gather[:, :, None]
            head = torch.arange(heads, device=self.gather.device)
            self._outputs[heads] = (first * heads + head * length + number).flatten()
        return self._outputs[heads]

    def to(self, device: Any) -> PackedBatch:
        def move(x: Any) -> Any:
            return x.to(device, non_blocking=True) if hasattr(x, "to") else x

        buckets = [Bucket(*(move(getattr(b, n)) for n in _BUCKET)) for b in self.buckets]
        own = {n: move(v) for n, v in vars(self).items() if not n.startswith("_")}
        return PackedBatch(**own | {"buckets": buckets})


_BUCKET = ("queries", "keys", "allowed", "distance")


def _common_length(one: array[int], other: array[int]) -> int:
    """The length of the longest common prefix."""
    least = min(len(one), len(other))
    if one[:least] == other[:least]:
        return least
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def _build_tree(examples: Sequence[WeightedExample]) -> PrefixTree:
    tree = PrefixTree()
    before = array("i")
    path = np.empty(0, dtype=np.int64)
    for example in sorted(examples, key=lambda e: e.tokens.ids):
        ids, start = example.tokens.ids, example.tokens.start
        shared = _common_length(before, ids)
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
        before = ids
    return tree


def _placeholder_tree() -> PrefixTree:
    """One token without labels, in place of a row that has no examples in this pass."""
    return PrefixTree([0], [0], [np.zeros(1, dtype=np.int64)], [range(1)])


def pack(rows: Sequence[Sequence[WeightedExample]]) -> PackedBatch:
    """One forward pass over `rows`, one tree each; a row may be empty.

    Tokens that predict a label stand at the end of each row, so that the model computes logits for
    its last `predictors` columns alone; rows are padded in between.
    """
    import torch

    trees = [_build_tree(row) if row else _placeholder_tree() for row in rows]
    predicting = [np.unique(np.array([p for p, _, _ in t.labels], dtype=np.int64)) for t in trees]
    predictors = max(1, *map(len, predicting))
    length = predictors + max(len(t.ids) - len(p) for t, p in zip(trees, predicting, strict=True))
    ids = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.zeros_like(ids)
    places, labels = [], []
    for row, (tree, ends) in enumerate(zip(trees, predicting, strict=True)):
        place = np.empty(len(tree.ids), dtype=np.int64)
        ending = np.zeros(len(tree.ids), dtype=bool)
        ending[ends] = True
        place[~ending] = np.arange(len(tree.ids) - len(ends))
        place[ending] = np.arange(length - len(ends), length)
        ids[row, place], positions[row, place] = tree.ids, tree.depth
        places.append(place + row * length)
        first = length - predictors
        labels += [(row * predictors + place[p] - first, y, w, row) for p, y, w in tree.labels]
    gather = np.ones((3, ids.size), dtype=np.int64) * [[0], [0], [1]]
    buckets = list(_buckets(trees, places, positions.ravel(), gather))
    for row, place in enumerate(places):  # padding looks at its own row: no number leaves its adapter
        padding = np.setdiff1d(np.arange(row * length, (row + 1) * length), place)
        gather[:, padding] = gather[:, place[:1]]
    at, label, weight, adapter = zip(*labels, strict=True) if labels else ((), (), (), ())
    return PackedBatch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        buckets,
        torch.from_numpy(gather),
        predictors,
        torch.tensor(at, dtype=torch.long),
        torch.tensor(label, dtype=torch.long),
        torch.tensor(weight, dtype=torch.float32),
        torch.tensor(adapter, dtype=torch.long),
        sum(len(t.ids) for t, row in zip(trees, rows, strict=True) if row),
    )


def _buckets(
    trees: list[PrefixTree], places: list[np.ndarray], positions: np.ndarray, gather: np.ndarray
) -> Iterator[Bucket]:
    """The blocks of all rows, sorted by length into buckets; fills `gather` as it goes."""
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
    import torch

    most_queries, most_keys = (max(len(block[i]) for block in blocks) for i in (0, 1))
    queries = np.zeros((len(blocks), most_queries), dtype=np.int64)
    keys = np.zeros((len(blocks), most_keys), dtype=np.int64)
    reach = np.zeros_like(queries)  # how many keys of its path a query may see; padding sees one
    for number, (own, path) in enumerate(blocks):
        queries[number], keys[number] = own[0], path[0]
        queries[number, : len(own)], keys[number, : len(path)] = own, path
        reach[number, : len(own)] = len(path) - len(own) + np.arange(len(own))
    allowed = np.arange(most_keys) <= reach[:, :, None]
    distance = positions[queries][:, :, None] - positions[keys][:, None, :]
    distance[:, :, 0] = np.where(reach == 0, 0, distance[:, :, 0])  # padding sees its first key
    return Bucket(*(torch.from_numpy(x) for x in (queries, keys, allowed, distance)))
