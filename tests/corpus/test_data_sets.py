"""Tests of `unharm.corpus.data_sets`."""

from __future__ import annotations

from unharm.benchmarks.registry import BENCHMARKS
from unharm.corpus import benign
from unharm.corpus.data_sets import DATA_SETS


def test_every_benchmark_and_benign_set_is_listed() -> None:
    ours = {"harmless", "behaviour", "neutral"}
    assert {"survey", "arguments", *BENCHMARKS, *benign.BENIGN_FORMATS} - ours == set(DATA_SETS)
    for name, one in DATA_SETS.items():
        assert one.licence, name
        assert one.todo, name
