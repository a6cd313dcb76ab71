"""Tests of `unharm.training.dropout`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from unharm.training.dropout import Draw, Mask, counter_masks, host_masks, mix

CPU = torch.device("cpu")
RATE = 0.25


def on_host(draw: Draw, widths: list[int]) -> list[Mask]:
    return host_masks(draw, widths, RATE, CPU, torch.float32)


def on_device(draw: Draw, widths: list[int]) -> list[Mask]:
    return counter_masks(draw, widths, RATE, CPU)


@pytest.mark.parametrize("masks", [on_host, on_device])
def test_dropout_is_that_of_its_seed_alone(masks: Callable[[Draw, list[int]], list[Mask]]) -> None:
    widths = [32, 7]
    shared = [m() for m in masks(Draw((1, 1, 1), (0, 0, 0), 400, 100), widths)]
    assert [m.shape for m in shared] == [(1, 400, 32), (1, 400, 7)]
    assert len(shared[0].unique()) == 2
    assert shared[0].min() == 0
    assert float((shared[0] == 0).float().mean()) == pytest.approx(RATE, abs=0.02)
    assert not torch.equal(shared[0][:, :, :7], shared[1])
    own = [m() for m in masks(Draw((1, 2, 1), (0, 0, 0), 420, 110), widths)]
    for one, mask in zip(shared, own, strict=True):
        assert mask.shape == (3, 420, one.shape[2])
        assert torch.equal(mask[0], mask[2])
        assert not torch.equal(mask[0], mask[1])
        assert torch.equal(mask[0, :300], one[0, :300])  # longer rows only add in between
        assert torch.equal(mask[0, -100:], one[0, -100:])
    other = masks(Draw((1,), (0, 1, 0), 400, 100), widths)[0]
    assert not torch.equal(other(), shared[0])
    assert torch.equal(other(), other())


def test_masks_of_the_device_drop_evenly_and_independently() -> None:
    """Rate by place, by column, and agreement of neighbours, each within five standard errors."""
    mask = counter_masks(Draw((9,), (3, 1, 4), 2000, 500), [600], 0.1, CPU)[0]()[0]
    dropped = (~mask).double()
    rate = 0.1
    error = (rate * (1 - rate)) ** 0.5
    assert float(dropped.mean()) == pytest.approx(rate, abs=5 * error / mask.numel() ** 0.5)
    for dim in (0, 1):
        means = dropped.mean(dim=dim)
        assert float((means - rate).abs().max()) < 5 * error / mask.shape[dim] ** 0.5
    centred = (dropped - rate) / error
    for shift in ((0, 1), (1, 0), (1, 1), (0, 2), (1024, 0)):
        beside = centred.roll(shift, dims=(0, 1))
        assert abs(float((centred * beside).mean())) < 5 / mask.numel() ** 0.5


def test_the_hash_is_the_published_one() -> None:
    """Against its definition in whole numbers of Python."""

    def plain(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % (1 << 32)
        x ^= x >> 15
        x = x * 0x846CA68B % (1 << 32)
        return x ^ (x >> 16)

    numbers = [0, 1, 2, 77, 2**31 - 1, 2**31, 2**32 - 1, 3_000_000_000]
    signed = torch.tensor([n - (n >> 31 << 32) for n in numbers], dtype=torch.int32)
    assert [n % (1 << 32) for n in mix(signed).tolist()] == [plain(n) for n in numbers]
