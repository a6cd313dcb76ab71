"""The worked example in the docstring of `engines/mixed_lora.py`."""

from __future__ import annotations

import torch
from torch import nn

from unharm.engines.mixed_lora import Adapter, AdapterMixer


class Base(nn.Module):
    """A base with one linear module."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(3, 2)


def test_two_adapters_and_the_plain_base_in_one_batch() -> None:
    generator = torch.Generator().manual_seed(5)
    base = Base().requires_grad_(False)
    plain = base.q
    x, y = (
        Adapter({"q": (torch.randn(r, 3, generator=generator), torch.randn(2, r, generator=generator))})
        for r in (1, 2)
    )
    mixer = AdapterMixer(base)
    mixer.use({"x": x, "y": y})
    mixer.assign(["x", "y", ""], torch.tensor([0, 1, 2]))
    module = mixer.modules["q"]
    assert module.a is not None
    assert module.row_mask is not None
    assert module.a.abs().sum(dim=0).ne(0).nonzero().flatten().tolist() == [0, 8, 9]
    assert module.row_mask.tolist() == [[1.0] * 8 + [0.0] * 8, [0.0] * 8 + [1.0] * 8, [0.0] * 16]

    inputs = torch.randn(1, 3, 3, generator=generator)
    outputs = base.q(inputs)[0]
    for row, adapter in enumerate((x, y, None)):
        expected = plain(inputs[0, row])
        if adapter is not None:
            a, b = adapter.pairs["q"]
            expected = expected + b @ (a @ inputs[0, row])
        assert torch.allclose(outputs[row], expected, atol=1e-6)
