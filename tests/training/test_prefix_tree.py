"""Tests of `unharm.training.prefix_tree`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support.stack_helpers import model_of
from support.stacks import tree_of_examples
from unharm.training.attention import label_logits, packing
from unharm.training.loss import label_losses
from unharm.training.prefix_tree import WeightedExample, pack
from unharm.training.tokens import Tokens


def test_shared_prefixes_are_computed_once() -> None:
    batch = [Tokens(str(i), _ids([1, 2, 3, 4, 10 + i]), 4) for i in range(5)]
    packed = pack([[WeightedExample(t, 1.0) for t in batch], []])
    assert packed.tokens == 4 + 5
    assert packed.predictors == 1  # all labels follow the same token
    assert packed.ids.shape == (2, 9)
    assert packed.label.tolist() == [10, 11, 12, 13, 14]


def test_the_same_example_twice_counts_twice() -> None:
    model = model_of("llama")
    batch = tree_of_examples(4, 2)
    with packing(model), torch.no_grad():
        once = pack([[WeightedExample(t, 1.0) for t in batch]])
        twice = pack([[WeightedExample(t, 1.0) for t in [*batch, batch[0]]]])
        own = label_losses(label_logits(model, once), once).sum()
        both = label_losses(label_logits(model, twice), twice).sum()
        alone = pack([[WeightedExample(batch[0], 1.0)]])
        first = label_losses(label_logits(model, alone), alone).sum()
    assert both.item() == pytest.approx((own + first).item(), rel=1e-5)
    assert twice.tokens == once.tokens


def _ids(numbers: list[int]) -> Any:
    from array import array

    return array("i", numbers)
