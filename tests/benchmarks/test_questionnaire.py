"""Tests of `unharm.benchmarks.questionnaire`."""

from __future__ import annotations

from unharm.benchmarks import questionnaire


def test_pvq40_key_covers_every_item_once() -> None:
    numbers = sorted(n for items in questionnaire.PVQ40.values() for n in items)
    assert numbers == list(range(1, 41))
