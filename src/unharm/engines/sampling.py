"""Drawing tokens: nucleus sampling (Holtzman et al., 2020) with draws that belong to each sample."""

from __future__ import annotations

import torch

MIN_LOG_MASS = -80.0
"""Below this an exponential counts as nothing: such tiny numbers would slow a CPU down."""


HALVINGS = 24
"""So many times the largest mass is halved in search of the nucleus."""


def pick(
    logits: torch.Tensor,
    temperatures: torch.Tensor,
    top_p: torch.Tensor,
    row_of: torch.Tensor,
    draws: torch.Tensor,
) -> torch.Tensor:
    """One token [samples] for every sample.

    `logits` [rows, vocabulary]; `temperatures` (0 is greedy) and `top_p` in (0, 1] are [rows];
    `row_of` [samples] is the row of each sample, `draws` [samples] its uniform number in [0, 1).
    A token depends on its own row and draw alone.
    """
    tokens = logits.argmax(dim=-1)[row_of]
    warm = temperatures > 0
    for chosen, draw in ((warm & (top_p >= 1), _from_all), (warm & (top_p < 1), _from_nucleus)):
        if not bool(chosen.any()):
            continue
        rows = chosen.nonzero()[:, 0]
        mine = chosen[row_of].nonzero()[:, 0]
        place = torch.zeros_like(chosen, dtype=torch.long)
        place[rows] = torch.arange(len(rows), device=rows.device)
        some = logits if len(rows) == len(logits) else logits[rows]
        mass = (some - some.amax(dim=-1, keepdim=True)) / temperatures[rows, None].to(some.dtype)
        mass = torch.threshold_(mass, MIN_LOG_MASS, -torch.inf).exp_()
        tokens[mine] = draw(mass, top_p[rows, None], place[row_of[mine]], draws[mine, None])
    return tokens


def _from_all(
    mass: torch.Tensor, top_p: torch.Tensor, row_of: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    reached = mass.cumsum(dim=-1, dtype=torch.float64)[row_of]
    found = torch.searchsorted(reached, draws * reached[:, -1:], right=True)[:, 0]
    return found.clamp(max=mass.shape[1] - 1)


def _from_nucleus(
    mass: torch.Tensor, top_p: torch.Tensor, row_of: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """The nucleus is the fewest most likely tokens with a mass of at least top_p. Few tokens have to be
    sorted to find it: one with less than (1 - top_p) / vocabulary of the mass is never in it (half of
    that is kept, against rounding), nor one that is smaller by a factor of two or more than the last of
    those that suffice."""
    total = mass.sum(dim=-1, keepdim=True, dtype=torch.float64)
    kept = mass >= ((1 - top_p) / mass.shape[1] * total / 2).to(mass.dtype)
    rows, tokens = kept.nonzero(as_tuple=True)
    held = mass[rows, tokens]
    enough = _halvings(rows, held, len(mass)) >= top_p * total
    smallest = torch.exp2(-(enough.int().argmax(dim=-1) + 1).to(held.dtype))
    within = held > torch.where(enough.any(dim=-1), smallest, 0.0)[rows]
    rows, tokens, held = rows[within], tokens[within], held[within]
    counts = torch.bincount(rows, minlength=len(mass))
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    chances = mass.new_zeros(len(mass), int(counts.max()))
    named = tokens.new_zeros(chances.shape)
    chances[rows, places], named[rows, places] = held, tokens
    sorted_chances, order = chances.sort(dim=-1, descending=True, stable=True)
    sorted_chances = sorted_chances.double()
    before = sorted_chances.cumsum(dim=-1) - sorted_chances
    sorted_chances = sorted_chances.masked_fill(before >= top_p * total, 0.0)
    reached = sorted_chances.cumsum(dim=-1)[row_of]
    drawn = (reached <= draws * reached[:, -1:]).sum(dim=-1)
    drawn = torch.minimum(drawn, (sorted_chances > 0).sum(dim=-1)[row_of] - 1)
    return named.gather(1, order)[row_of, drawn]


def _halvings(rows: torch.Tensor, held: torch.Tensor, count: int) -> torch.Tensor:
    """Sums [count, HALVINGS]: of a row's masses that are more than 1/2, 1/4, 1/8 … of the largest."""
    halving = (-torch.log2(held)).floor().long().clamp_(0, HALVINGS)
    whole = torch.bincount(
        rows * (HALVINGS + 1) + halving, weights=held.double(), minlength=count * (HALVINGS + 1)
    )
    return whole.view(count, HALVINGS + 1)[:, :HALVINGS].cumsum(dim=-1)
