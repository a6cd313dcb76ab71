"""Tests of `unharm.analysis.capability`."""

from __future__ import annotations

import pytest

from unharm.analysis.capability import capability_table
from unharm.core.records import Profile, Subject

TASK = ("quiz", "acc")


def test_differences_are_paired_by_document_and_profiles_by_target() -> None:
    """Golden case: vanilla has 1, 0, 1; a benign adapter 1, 1, 1; two near copies 0.5 and 0 less on average."""
    plain = {TASK: {"0": 1.0, "1": 0.0, "2": 1.0}}
    benign = {TASK: {"0": 1.0, "1": 1.0, "2": 1.0}}
    one, other = ({TASK: {"0": a, "1": 0.0, "2": 1.0}} for a in (0.0, 1.0))
    profiles = [Profile(n, (1.0,) * 10) for n in ("power", "power-near-1")]
    scores = {
        Subject("vanilla", None, "input-only"): plain,
        Subject("benign:grammar", None, "input-only"): benign,
        Subject("vim", profiles[0], "input-only"): one,
        Subject("vim", profiles[1], "input-only"): other,
    }
    rows = {r["arm"]: r for r in capability_table(scores, 0.95).to_dicts()}
    assert rows["vanilla"]["value"] == 0.0
    assert rows["benign:grammar"]["value"] == pytest.approx(1 / 3)
    assert (rows["benign:grammar"]["n"], rows["benign:grammar"]["unit"]) == (3, "document")
    assert rows["vim"]["value"] == pytest.approx(-1 / 6)
    assert (rows["vim"]["n"], rows["vim"]["unit"], rows["vim"]["models"]) == (1, "target", 2)
    assert rows["vim"]["value_arm"] == pytest.approx(0.5)
    assert rows["vim"]["value_vanilla"] == pytest.approx(2 / 3)


def test_documents_of_one_side_are_counted() -> None:
    scores = {
        Subject("vanilla", None, "input-only"): {TASK: {"0": 1.0, "1": 0.0}},
        Subject("benign:grammar", None, "input-only"): {TASK: {"1": 1.0, "2": 1.0}},
    }
    row = capability_table(scores, 0.95).row(1, named=True)
    assert (row["value"], row["n"], row["unscored"]) == (1.0, 1, 2)
