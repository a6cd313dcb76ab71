"""Measure how far an adapter moves activations along directions."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HeldOut:
    """What the base does on held-out texts.

    Attributes:
        means: Mean activations [texts, layers, hidden].
        directions: Unit directions [directions, layers, hidden].
        spread: Standard deviation of the base along each direction [layers, directions].
    """

    means: torch.Tensor
    directions: torch.Tensor
    spread: torch.Tensor


def held_out(means: torch.Tensor, directions: torch.Tensor) -> HeldOut:
    """Return what the base does on held-out texts, with its spread along directions."""
    projections = torch.einsum("tlh,dlh->tld", means, directions)
    return HeldOut(means, directions, projections.std(dim=0).clamp_min(1e-9))


def shifts_along(base: HeldOut, adapted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean shift of an adapter along each direction, and its cosine with it.

    Args:
        base: The base on the same texts.
        adapted: Mean activations with the adapter [texts, layers, hidden].

    Returns:
        The shift in standard deviations of the base [layers, directions], and the cosine between the mean
        shift and the direction [layers, directions]; 0 where nothing moves or there is no direction.
    """
    mean = (adapted - base.means).mean(dim=0)
    along = torch.einsum("lh,dlh->ld", mean, base.directions)
    length = mean.norm(dim=-1)[:, None]
    cosine = torch.where(length > 1e-9, along / length.clamp_min(1e-9), torch.zeros_like(along))
    return along / base.spread, cosine
