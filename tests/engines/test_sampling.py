"""Tests of `unharm.engines.sampling`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unharm.engines import sampling
from unharm.engines.sampling import pick, pick_on_device

Drawn = Callable[[torch.Tensor, float, float, torch.Tensor], Any]


def drawn(logits: torch.Tensor, temperature: float, top_p: float, draws: torch.Tensor) -> torch.Tensor:
    """Every draw from one row of logits."""
    heat = torch.tensor([temperature], dtype=torch.float64)
    rows = torch.zeros(len(draws), dtype=torch.long)
    return pick(logits[None], heat, torch.tensor([top_p], dtype=torch.float64), rows, draws)


def drawn_on_device(logits: torch.Tensor, temperature: float, top_p: float, draws: torch.Tensor) -> Any:
    """The same, the way of an accelerator."""
    return torch.tensor(
        pick_on_device(logits[None], np.array([[temperature, top_p]]), [0] * len(draws), draws.numpy())
    )


@pytest.mark.parametrize("drawn", [drawn, drawn_on_device])
def test_sampling_draws_from_the_nucleus(drawn: Drawn) -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    draws = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn(logits, 1.0, 0.75, draws), minlength=4) / 4000
    assert counts[2] == counts[3] == 0
    assert counts[0].item() == pytest.approx(0.5 / 0.8, abs=0.03)
    counts = torch.bincount(drawn(logits, 1.0, 1.0, draws), minlength=4) / 4000
    assert counts.tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


@pytest.mark.parametrize("drawn", [drawn, drawn_on_device])
def test_low_temperature_is_greedy(drawn: Drawn) -> None:
    logits = torch.tensor([1.0, 5.0, 4.0])
    last = torch.tensor([0.0, 0.999999], dtype=torch.float64)
    assert drawn(logits, 0.01, 1.0, last).tolist() == [1, 1]
    assert drawn(logits, 0.0, 0.1, last).tolist() == [1, 1]


@pytest.mark.parametrize("drawn", [drawn, drawn_on_device])
def test_a_very_flat_and_wide_nucleus_is_whole(drawn: Drawn) -> None:
    """More tokens than any number of halvings would find: the last ones can still be drawn."""
    logits = torch.cat([torch.tensor([20.0]), torch.zeros(200_000)])
    draws = torch.tensor([0.0, 0.99999999], dtype=torch.float64)
    assert drawn(logits, 1.0, 0.99999, draws).tolist()[0] == 0
    assert drawn(logits, 1.0, 0.99999, draws).tolist()[1] > 100_000


@pytest.mark.parametrize("drawn", [drawn, drawn_on_device])
@settings(max_examples=60)
@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=40),
    temperature=st.floats(0.05, 3),
    top_p=st.floats(0.01, 0.999),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_is_the_one_of_the_sorted_definition(
    drawn: Drawn, logits: list[float], temperature: float, top_p: float, draw: float
) -> None:
    row = torch.tensor(logits)
    chances = torch.softmax(row.double() / temperature, -1)
    order = sorted(range(len(logits)), key=lambda t: (-chances[t].item(), t))
    reached = [sum(chances[t].item() for t in order[: n + 1]) for n in range(len(order))]
    token = int(drawn(row, temperature, top_p, torch.tensor([draw], dtype=torch.float64)))
    own = chances[token].item()
    likelier = sum(c for c in chances.tolist() if c > own * (1 + 1e-5))  # near ties may go either way
    as_likely = sum(c for c in chances.tolist() if c >= own * (1 - 1e-5))
    before = [0.0, *reached[:-1]]
    edges = [m for m, b in zip(reached, before, strict=True) if b < top_p + 1e-5 and m >= top_p - 1e-5]
    assert edges  # rounding may put one token more or less into the nucleus
    assert any(likelier - 1e-4 <= draw * mass <= as_likely + 1e-4 for mass in edges)
    assert likelier < top_p + 1e-4


def test_a_draw_on_the_device_is_that_of_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of other settings beside it, several samples a row, and rows sorted in parts change nothing."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(5, 300, generator=generator) * 3
    rows = np.array([[0.1, 0.75], [0.0, 1.0], [1.5, 1.0], [0.9, 0.95], [0.7, 0.2]])
    row_of = [0, 2, 2, 1, 3, 2, 4, 0, 3, 1]
    draws = np.random.default_rng(1).random(len(row_of))
    together = pick_on_device(logits, rows, row_of, draws)
    alone = [
        pick_on_device(logits[r : r + 1], rows[r : r + 1], [0], draws[n : n + 1])[0]
        for n, r in enumerate(row_of)
    ]
    assert together == alone
    assert together[3] == together[9] == int(logits[1].argmax())
    assert len({together[n] for n in (1, 2, 5)}) > 1
    monkeypatch.setattr(sampling, "SORTED_AT_ONCE", 700)
    assert pick_on_device(logits, rows, row_of, draws) == together
