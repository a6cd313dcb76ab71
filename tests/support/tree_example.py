"""The batch of the worked example in `training/prefix_tree.py`."""

from __future__ import annotations

from array import array

from unharm.training.prefix_tree import PackedBatch, WeightedExample, pack
from unharm.training.tokens import Tokens

A, B, C, D, E, F = range(1, 7)
LETTERS = dict(zip(range(1, 7), "ABCDEF", strict=True))


def example_row() -> PackedBatch:
    texts = [[A, B, C, D], [A, B, C, E], [A, B, F]]
    examples = [Tokens(str(n), array("i", ids), 2) for n, ids in enumerate(texts)]
    return pack([[WeightedExample(tokens, 1.0) for tokens in examples]])
