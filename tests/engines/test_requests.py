"""Tests of `unharm.engines.requests`."""

from __future__ import annotations

from unharm.engines.requests import identify


def test_ids_and_seeds_differ_between_samples_prompts_and_subjects() -> None:
    found = {identify(s, "b", p, n, 1) for s in "xy" for p in "pq" for n in range(3)}
    assert len({i for i, _ in found}) == len({s for _, s in found}) == 12
