"""Tests of `unharm.runs.stages.mitigation`."""

from __future__ import annotations

from pathlib import Path

from unharm.benchmarks.registry import load_prompts, select_half
from unharm.runs.stages.mitigation import halves


def test_halves_are_even_and_do_not_depend_on_the_order(toy_data: Path) -> None:
    prompts = load_prompts("hexphi", toy_data / "hexphi", None, 1).prompts
    first, second = select_half(prompts, "a", 7), select_half(prompts, "b", 7)
    assert {p.id for p in first} & {p.id for p in second} == set()
    assert len(first) + len(second) == len(prompts)
    for category in {p.category for p in prompts}:
        sizes = [sum(p.category == category for p in half) for half in (first, second)]
        assert abs(sizes[0] - sizes[1]) <= 1
    assert {p.id for p in select_half(prompts[::-1], "a", 7)} == {p.id for p in first}
    assert select_half(prompts, None, 7) == prompts
    one, other = halves([f"x{n}" for n in range(9)], 3)
    assert (len(one), len(other)) == (5, 4)
    assert set(one) == set(halves([f"x{n}" for n in reversed(range(9))], 3)[0])
