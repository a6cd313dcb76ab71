"""Dropout masks of stacked adapters.

A mask depends on the adapter's seed, the draw (epoch, step, pass), the module, and the token's place. It
does not depend on how many adapters are stacked, nor on the length of their rows: the places of the first
tokens count from the start of the row, those of the last `tail` tokens from its end. So an adapter has the
same masks in a stack and alone.

On a CPU, numpy draws the masks of all modules before the pass. On an accelerator a hash of place and column
draws each mask where it is used: nothing is copied, and only the module at hand has a mask in memory::

    place of the token    counter p     row key    r[p] = mix(p + key 1)
    pair of columns       counter c     column key k[c] = mix(c + key 2)

    mix(r[p] + k[c])    32 bits: two draws of 16 bits, for the columns 2c and 2c + 1

`mix` is the finaliser "lowbias32" (Wellons, 2018), which has no visible bias. Both ways drop with
probability `rate`, exact to 1/65536.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from unharm.core.models.transfer import to_device

Mask = Callable[[], torch.Tensor]
"""Returns the mask of one module, broadcast over its input [K, length, in]. It is the same every time."""

STEPS = 1 << 16
"""Number of steps of a draw of 16 bits."""
FROM_END = 1 << 30
"""Places that count from the end of the row get this in their counter."""
FACTORS = (0x7FEB352D, 0x846CA68B - (1 << 32))
"""The factors of `mix`, as signed numbers."""


@dataclass(frozen=True)
class Draw:
    """What a mask depends on beside the module.

    Attributes:
        seeds: Seed of each adapter.
        numbers: Numbers of epoch, step and pass.
        length: Tokens in a row.
        tail: How many of them, at the end, count their places from the end of the row.
    """

    seeds: tuple[int, ...]
    numbers: tuple[int, ...]
    length: int
    tail: int

    @property
    def distinct(self) -> list[int]:
        """The seeds, each once. Adapters of one seed share their masks, as they would in separate runs."""
        return list(dict.fromkeys(self.seeds))

    def by_adapter(self, masks: torch.Tensor) -> torch.Tensor:
        """Return the mask of each adapter from those of the distinct seeds; one for all if there is one."""
        distinct = self.distinct
        if len(distinct) in (1, len(self.seeds)):
            return masks
        order = torch.tensor([distinct.index(seed) for seed in self.seeds])
        return masks.index_select(0, to_device(order, masks.device))


def host_masks(
    draw: Draw, widths: Sequence[int], rate: float, device: torch.device, dtype: torch.dtype
) -> list[Mask]:
    """Draw the masks of all modules with numpy: 0 where dropped, else 1 / (1 - rate).

    Args:
        draw: What to draw.
        widths: Inputs of each module.
        rate: Probability of dropping.
        device: Where the masks are needed.
        dtype: Their type.

    Returns:
        The mask of each module, [1 or K, length, in].
    """
    drawn = [
        _host_mask((seed, *draw.numbers), draw.length, draw.tail, sum(widths), rate)
        for seed in draw.distinct
    ]
    masks = draw.by_adapter(to_device(torch.from_numpy(np.stack(drawn)), device).to(dtype))
    ends = np.cumsum([0, *widths]).tolist()
    parts = [masks[:, :, first:last] for first, last in pairwise(ends)]
    return [partial(_same, part) for part in parts]


def _same(mask: torch.Tensor) -> torch.Tensor:
    """Return a mask that was drawn before."""
    return mask


def _host_mask(seed: tuple[int, ...], length: int, tail: int, width: int, rate: float) -> np.ndarray:
    """Return one mask [length, width] of floats."""
    parts = []
    for end, count in enumerate((length - tail, tail)):
        generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence((*seed, end))))
        numbers = np.frombuffer(generator.bytes(-(-count * width // 2) * 4), dtype=np.uint16)
        parts.append((numbers[: count * width] >= round(rate * STEPS)).reshape(count, width))
    return np.concatenate([parts[0], parts[1][::-1]]) * np.float32(1 / (1 - rate))


def counter_masks(draw: Draw, widths: Sequence[int], rate: float, device: torch.device) -> list[Mask]:
    """Return the masks of all modules as booleans: whether to keep an input. Each is drawn when called.

    Args:
        draw: What to draw.
        widths: Inputs of each module.
        rate: Probability of dropping.
        device: Where to draw.

    Returns:
        The mask of each module, [1 or K, length, in].
    """
    pairs = [-(-width // 2) for width in widths]
    ends = np.cumsum([0, *pairs]).tolist()
    words = [np.random.SeedSequence((seed, *draw.numbers)).generate_state(2) for seed in draw.distinct]
    keys = to_device(torch.from_numpy(np.stack(words).view(np.int32)), device)
    head = torch.arange(draw.length - draw.tail, device=device, dtype=torch.int32)
    tail = FROM_END + torch.arange(draw.tail - 1, -1, -1, device=device, dtype=torch.int32)
    rows = mix(torch.cat([head, tail]) + keys[:, :1])
    columns = mix(torch.arange(ends[-1], device=device, dtype=torch.int32) + keys[:, 1:])
    limit = round(rate * STEPS) - STEPS // 2  # the two halves of a hash are signed

    def mask(first: int, last: int, width: int) -> torch.Tensor:
        drawn = mix(rows[:, :, None] + columns[:, None, first:last]).view(torch.int16)
        return draw.by_adapter(drawn[:, :, :width] >= limit)

    return [
        partial(mask, first, last, width)
        for (first, last), width in zip(pairwise(ends), widths, strict=True)
    ]


def mix(numbers: torch.Tensor) -> torch.Tensor:
    """Hash 32-bit numbers in place. Signed shifts are masked, so that they bring in zeros."""
    for shift, factor in zip((16, 15), FACTORS, strict=True):
        numbers.bitwise_xor_((numbers >> shift).bitwise_and_((1 << (32 - shift)) - 1)).mul_(factor)
    return numbers.bitwise_xor_((numbers >> 16).bitwise_and_(0xFFFF))
