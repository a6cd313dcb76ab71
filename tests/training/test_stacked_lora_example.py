"""The worked example in the docstring of `training/stacked_lora.py`."""

from __future__ import annotations

import torch
from torch import nn

from unharm.core.models.peft_folder import Lora
from unharm.training.stacked_lora import Stack


class Base(nn.Module):
    """A base with the two modules of the example."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.v = nn.Linear(3, 2), nn.Linear(3, 1)


def test_which_columns_belong_to_which_matrix() -> None:
    stack = Stack(Base(), Lora(r=1, targets=["q", "v"]), 2)
    assert stack.weights.shape == (2, 9)
    stack.weights.copy_(torch.arange(18.0).view(2, 9))
    q, v = stack.modules["q"], stack.modules["v"]
    views = {"q.A": (q.a, 0, 3), "q.B": (q.b, 3, 5), "v.A": (v.a, 5, 8), "v.B": (v.b, 8, 9)}
    for name, (view, start, end) in views.items():
        assert view.shape == (2, 1, end - start), name
        assert torch.equal(view[:, 0], stack.weights[:, start:end]), name


def test_the_views_share_the_memory_of_the_stack() -> None:
    stack = Stack(Base(), Lora(r=1, targets=["q", "v"]), 2)
    stack.weights[1, 5:8] = 7.0
    assert stack.modules["v"].a[1].eq(7).all()
    assert stack.modules["v"].a[0].eq(0).all()
