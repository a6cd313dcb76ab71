"""Tests of `unharm.profiles.extreme`."""

from __future__ import annotations

from pathlib import Path

from unharm.core.values import VALUES
from unharm.profiles.extreme import TARGETS, extreme, reverse


def test_reverses() -> None:
    for name in TARGETS:
        pairs = zip(extreme(name).importances, reverse(name).importances, strict=True)
        assert all(a + b == 7 for a, b in pairs)


def test_fourteen_extremes() -> None:
    assert len(TARGETS) == 14
    for name, high in TARGETS.items():
        profile = extreme(name)
        assert {v for v in VALUES if profile[v] == 6} == set(high)
        assert {profile[v] for v in VALUES if v not in high} == {1.0}


def test_extremes_are_the_published_ones(real_data: Path) -> None:
    import csv

    with (real_data / "profiles" / "extreme_distributions.csv").open() as file:
        rows = list(csv.reader(file, delimiter="\t"))
    published = {tuple(float(x) for x in r[1:]) for r in rows[1:15]}
    assert published == {extreme(n).importances for n in TARGETS}
