"""How likely each of some answers is, before anything is sampled."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from unharm.engines.cells import Cells, Pass, rounded
from unharm.engines.rows import Unit

Forward = Callable[[Pass, torch.Tensor, list[str], tuple[torch.Tensor, torch.Tensor]], torch.Tensor]
"""From a pass, tokens [rows, length], adapters and wanted places to logits [wanted, vocabulary]."""


def option_probabilities(
    units: list[Unit], answers: list[list[list[int]]], forward: Forward, device: torch.device
) -> list[tuple[float, ...]]:
    """For every unit the probability of each of its answers as the beginning of what follows.

    `answers` are the tokens of the prompt with each answer after it. An answer's probability is the
    product over its tokens from where it leaves the prompt's; answers that share all tokens but the
    last, as numbers do, are read off one row.
    """
    rows: list[tuple[Unit, list[int]]] = []
    wanted: list[tuple[int, int, int]] = []  # row, place, token
    terms: list[list[list[int]]] = []  # by unit, by answer: numbers into `wanted`
    for unit, found in zip(units, answers, strict=True):
        at: dict[tuple[int, ...], int] = {}
        mine = []
        for ids in found:
            path = tuple(ids[unit.shared : -1])
            if path not in at:
                at[path] = len(rows)
                rows.append((unit, list(path)))
            start = _common(unit.ids, ids)
            mine.append(list(range(len(wanted), len(wanted) + len(ids) - start)))
            wanted += [(at[path], place - 1 - unit.shared, ids[place]) for place in range(start, len(ids))]
        terms.append(mine)
    length = rounded(max(len(path) for _, path in rows))
    ids_in = torch.zeros(len(rows), length, dtype=torch.long)
    members: dict[int, list[int]] = {}
    for row, (unit, own) in enumerate(rows):
        ids_in[row, : len(own)] = torch.tensor(own)
        if unit.prefix is not None:
            members.setdefault(id(unit.prefix), []).append(row)
    prefixes = {id(u.prefix): u.prefix for u, _ in rows if u.prefix is not None}
    cells = Cells()
    cells.reserve(len(rows), length)
    passed = Pass(
        cells,
        0,
        torch.zeros(len(rows), dtype=torch.long, device=device),
        length,
        torch.tensor([u.shared for u, _ in rows], device=device),
        [(prefixes[p], torch.tensor(m, device=device)) for p, m in members.items()],
    )
    places = torch.tensor([w[:2] for w in wanted], device=device)
    logits = forward(passed, ids_in.to(device), [u.adapter for u, _ in rows], (places[:, 0], places[:, 1]))
    chosen = torch.tensor([w[2] for w in wanted], device=device)
    logs = torch.log_softmax(logits.float(), dim=-1).gather(1, chosen[:, None])[:, 0].tolist()
    return [tuple(math.exp(sum(logs[n] for n in answer)) for answer in mine) for mine in terms]


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens two texts share at their beginning, leaving the other at least one."""
    count = 0
    for a, b in zip(one, other[:-1], strict=False):
        if a != b:
            break
        count += 1
    return count
