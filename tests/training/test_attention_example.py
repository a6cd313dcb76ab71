"""The worked example in the docstring of `training/attention.py`."""

from __future__ import annotations

import torch

from support.tree_example import example_row
from unharm.training.attention import tree_attention


def test_e_attends_to_its_own_path_and_never_to_d() -> None:
    packed = example_row()
    generator = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn(1, 1, 6, 4, generator=generator) for _ in range(3))
    out, _ = tree_attention(torch.nn.Identity(), query, key, value, None, packed=packed)
    path = [0, 4, 5, 2]  # A B C E
    weights = (query[0, 0, 2] @ key[0, 0, path].T / 2).softmax(dim=-1)
    assert torch.allclose(out[0, 2, 0], weights @ value[0, 0, path], atol=1e-6)

    value[0, 0, 1] += 100  # D
    changed, _ = tree_attention(torch.nn.Identity(), query, key, value, None, packed=packed)
    assert torch.equal(changed[0, 2], out[0, 2])
    assert not torch.equal(changed[0, 1], out[0, 1])
