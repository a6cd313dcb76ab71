"""Draw tokens by nucleus sampling (Holtzman et al., 2020), with uniform numbers that belong to each
sample."""

from __future__ import annotations

import numpy as np
import torch

from unharm.core.models.transfer import to_device, together

MIN_LOG_MASS = -80.0
"""Treat smaller log masses as zero: denormal numbers slow a CPU down."""

SORTED_AT_ONCE = 1 << 24
"""Sort the masses of at most so many tokens at a time, which takes about 20 bytes of memory for each."""

HALVINGS = 24
"""How many halvings of the largest mass to try when bounding the nucleus."""


def pick(
    logits: torch.Tensor,
    temperatures: torch.Tensor,
    top_p: torch.Tensor,
    row_of: torch.Tensor,
    draws: torch.Tensor,
) -> torch.Tensor:
    """Draw one token for every sample. A token depends on its own row and draw alone.

    Args:
        logits: [rows, vocabulary].
        temperatures: Temperature of each row; 0 is greedy [rows].
        top_p: Mass of the nucleus of each row, in (0, 1] [rows].
        row_of: Row of each sample [samples].
        draws: Uniform number of each sample, in [0, 1) [samples].

    Returns:
        Token ids [samples].
    """
    tokens = logits.argmax(dim=-1)[row_of]
    warm = temperatures > 0
    for chosen, draw in ((warm & (top_p >= 1), _from_all), (warm & (top_p < 1), _from_nucleus)):
        if not bool(chosen.any()):
            continue
        rows = chosen.nonzero()[:, 0]
        samples = chosen[row_of].nonzero()[:, 0]
        number_of = torch.zeros_like(chosen, dtype=torch.long)
        number_of[rows] = torch.arange(len(rows), device=rows.device)
        some = logits if len(rows) == len(logits) else logits[rows]
        mass = (some - some.amax(dim=-1, keepdim=True)) / temperatures[rows, None].to(some.dtype)
        mass = torch.threshold_(mass, MIN_LOG_MASS, -torch.inf).exp_()
        tokens[samples] = draw(mass, top_p[rows, None], number_of[row_of[samples]], draws[samples, None])
    return tokens


def pick_on_device(
    logits: torch.Tensor, settings: np.ndarray, row_of: list[int], draws: np.ndarray
) -> list[int]:
    """Draw one token for every sample, by operations of fixed shapes that an accelerator need not wait for.

    Draws from the same distribution as `pick`, but in the order of mass, so single draws differ from it.

    Args:
        logits: [rows, vocabulary].
        settings: Temperature and top-p of each row [rows, 2]; a temperature of 0 is greedy.
        row_of: Row of each sample.
        draws: Uniform number of each sample, in [0, 1) [samples].

    Returns:
        Token ids of the samples.
    """
    greedy = logits.argmax(dim=-1, keepdim=True)
    warm = settings[:, 0] > 0
    place_of, taken = [], [0] * len(logits)
    for row in row_of:
        place_of.append(taken[row])
        taken[row] += 1
    most = max(taken)
    rows, places = together([row_of, place_of], logits.device)
    if not warm.any():
        drawn: list[int] = greedy[rows, 0].tolist()
        return drawn
    numbers = np.zeros((len(logits), most + 2), dtype=np.float32)
    numbers[:, 0] = np.where(warm, settings[:, 0], 1.0)
    numbers[:, 1] = np.where(settings[:, 1] < 1, settings[:, 1], 2.0)
    numbers[row_of, np.array(place_of) + 2] = np.minimum(draws, 1 - 2.0**-24)
    columns = to_device(torch.from_numpy(numbers), logits.device)
    is_warm = to_device(torch.from_numpy(warm), logits.device)[:, None]
    step = max(1, SORTED_AT_ONCE // logits.shape[1])
    parts = [
        _draw_by_rank(logits[i : i + step], columns[i : i + step]) for i in range(0, len(logits), step)
    ]
    drawn = torch.where(is_warm, torch.cat(parts), greedy)[rows, places].tolist()
    return drawn


def _draw_by_rank(logits: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Draw tokens [rows, draws] by the cumulated mass of tokens in descending order.

    Args:
        logits: [rows, vocabulary].
        columns: Temperature, top-p and draws of each row [rows, 2 + draws].
    """
    mass = torch.softmax(logits.float() / columns[:, :1], dim=-1)
    mass, tokens = mass.sort(dim=-1, descending=True, stable=True)
    cumulated = mass.cumsum(dim=-1)
    inside = cumulated - mass < columns[:, 1:2]
    size = inside.sum(dim=-1, keepdim=True).clamp_(min=1)
    total = cumulated.gather(1, size - 1)
    drawn = torch.searchsorted(cumulated, columns[:, 2:] * total, right=True)
    return tokens.gather(1, torch.minimum(drawn, size - 1))


def _from_all(
    mass: torch.Tensor, top_p: torch.Tensor, row_of: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Draw from all tokens, by the cumulated mass."""
    cumulated = mass.cumsum(dim=-1, dtype=torch.float64)[row_of]
    drawn = torch.searchsorted(cumulated, draws * cumulated[:, -1:], right=True)[:, 0]
    return drawn.clamp(max=mass.shape[1] - 1)


def _from_nucleus(
    mass: torch.Tensor, top_p: torch.Tensor, row_of: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Draw from the nucleus: the fewest most likely tokens whose mass is at least `top_p`.

    Few tokens have to be sorted to find it. A token with less than (1 - top_p) / vocabulary of the mass is
    never in it; half of that is the limit here, against rounding. Nor is a token at most half as likely as
    the smallest of a set of tokens that suffices.
    """
    total = mass.sum(dim=-1, keepdim=True, dtype=torch.float64)
    candidates = mass >= ((1 - top_p) / mass.shape[1] * total / 2).to(mass.dtype)
    rows, tokens = candidates.nonzero(as_tuple=True)
    masses = mass[rows, tokens]
    suffices = _halvings(rows, masses, len(mass)) >= top_p * total
    smallest = torch.exp2(-(suffices.int().argmax(dim=-1) + 1).to(masses.dtype))
    in_reach = masses > torch.where(suffices.any(dim=-1), smallest, 0.0)[rows]
    rows, tokens, masses = rows[in_reach], tokens[in_reach], masses[in_reach]
    counts = torch.bincount(rows, minlength=len(mass))
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    probabilities = mass.new_zeros(len(mass), int(counts.max()))
    token_ids = tokens.new_zeros(probabilities.shape)
    probabilities[rows, places], token_ids[rows, places] = masses, tokens
    sorted_masses, order = probabilities.sort(dim=-1, descending=True, stable=True)
    sorted_masses = sorted_masses.double()
    before = sorted_masses.cumsum(dim=-1) - sorted_masses
    sorted_masses = sorted_masses.masked_fill(before >= top_p * total, 0.0)
    cumulated = sorted_masses.cumsum(dim=-1)[row_of]
    drawn = (cumulated <= draws * cumulated[:, -1:]).sum(dim=-1)
    drawn = torch.minimum(drawn, (sorted_masses > 0).sum(dim=-1)[row_of] - 1)
    return token_ids.gather(1, order)[row_of, drawn]


def _halvings(rows: torch.Tensor, masses: torch.Tensor, count: int) -> torch.Tensor:
    """Return per row the mass of tokens above 1/2, 1/4, 1/8 … of the largest [count, HALVINGS]."""
    halving = (-torch.log2(masses)).floor().long().clamp_(0, HALVINGS)
    by_halving = torch.bincount(
        rows * (HALVINGS + 1) + halving, weights=masses.double(), minlength=count * (HALVINGS + 1)
    )
    return by_halving.view(count, HALVINGS + 1)[:, :HALVINGS].cumsum(dim=-1)
