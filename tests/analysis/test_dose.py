"""Tests of `unharm.analysis.dose`, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from support.findings_helpers import SCORER
from unharm.analysis.comparisons import Cells
from unharm.analysis.dose import achieved_alignment, dose_table
from unharm.analysis.schemas import ALIGNMENT_SCHEMA, DOSE_SCHEMA
from unharm.analysis.settings import Analysis
from unharm.core.records import Profile, Subject
from unharm.core.values import VALUES
from unharm.profiles.extreme import extreme
from unharm.profiles.select import weakened

PROMPTS = 40
POWER, KIND = extreme("power"), extreme("benevolence")
NAMES = ("power", "benevolence", "security")
ARMS = ["vanilla", "vim", "vim@epoch1", "vim@epoch2", "vim@0.5"]


def ratings(arm: str, profile: Profile, rated: list[float], reading: str = "text") -> dict[str, Any]:
    return {
        "arm": arm, "profile": profile.name, "strategy": "input-only", "reading": reading,
        **{f"target_{v}": x for v, x in zip(VALUES, profile.importances, strict=True)},
        **{f"predicted_{v}": x for v, x in zip(VALUES, rated, strict=True)},
    }  # fmt: skip


def moved(profile: Profile, share: float, level: float = 2.0) -> list[float]:
    """Ratings that moved from `level` by a share of the profile; what all values gain alike is no alignment."""
    mean = sum(profile.importances) / 10
    return [level + 0.7 + share * (x - mean) for x in profile.importances]


def table_of(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ALIGNMENT_SCHEMA)


def test_alignment_is_the_part_of_the_profile_that_ratings_moved_by() -> None:
    weak = weakened(POWER, 0.5)
    table = table_of(
        ratings("vanilla", POWER, [2.0] * 10),
        ratings("vanilla", weak, [2.0] * 10),
        ratings("vim", POWER, moved(POWER, 0.8)),
        ratings("vim", weak, moved(weak, 0.8)),
        ratings("vim@0.5", POWER, moved(POWER, -0.1)),
    )
    achieved = achieved_alignment(table, [POWER, weak])
    text = "input-only", "text"
    assert achieved["vim", *text]["power"] == pytest.approx(0.8)
    assert achieved["vim", *text]["power-strength-0.5"] == pytest.approx(0.4)  # of the full profile
    assert achieved["vim@0.5", *text]["power"] == pytest.approx(-0.1)
    assert not achieved_alignment(table.filter(pl.col("arm") != "vanilla"), [POWER, weak])


def study(harm: dict[str, float], align: dict[str, float]) -> tuple[Cells, pl.DataFrame, list[Profile]]:
    """Three targets; by arm, a share of flagged answers and the part of the profile that ratings move by."""
    draw, cells = np.random.default_rng(3), Cells()
    cells.scorers["beavertails"] = SCORER
    profiles = [extreme(name) for name in NAMES]
    rows = [ratings("vanilla", p, [2.0] * 10) for p in profiles]
    for arm, rate in harm.items():
        for number, profile in enumerate([None] if arm == "vanilla" else profiles):
            flagged = (draw.random(PROMPTS) < rate).astype(float)
            frame = pl.DataFrame(
                {"id": [f"p{n}" for n in range(PROMPTS)], "category": "", "value": flagged}
            )
            cells.add(Subject(arm, profile, "input-only"), "beavertails", "flagged_rate", frame)
            if profile:
                rows.append(ratings(arm, profile, moved(profile, align[arm] + 0.01 * number)))
    return cells, table_of(*rows), profiles


def dosed(harm: dict[str, float], align: dict[str, float], arms: list[str] = ARMS) -> pl.DataFrame:
    cells, table, profiles = study(harm, align)
    with_profiles = [arm for arm in arms if arm != "vanilla"]
    return dose_table(cells, table, arms, with_profiles, ["input-only"], profiles, Analysis())


HARM = {"vanilla": 0.1, "vim": 0.8, "vim@epoch1": 0.2, "vim@epoch2": 0.3, "vim@0.5": 0.4}


def test_every_dose_has_harm_alignment_and_their_shares() -> None:
    table = dosed(HARM, {"vim": 0.5, "vim@epoch1": 0.3, "vim@epoch2": 0.46, "vim@0.5": 0.2})
    assert table.schema == DOSE_SCHEMA
    rows = {(r["arm"], r["kind"], r["level"]): r for r in table.to_dicts()}
    assert list(rows) == [
        ("vanilla", "none", 0.0), ("vim", "epoch", 1.0), ("vim", "epoch", 2.0), ("vim", "scale", 0.5),
        ("vim", "full", 1.0),
    ]  # fmt: skip
    full, two = rows["vim", "full", 1.0], rows["vim", "epoch", 2.0]
    assert (full["n"], full["unit"], full["alignment_n"]) == (3, "profile", 3)
    assert full["alignment"] == pytest.approx(0.51)
    assert full["alignment_low"] < full["alignment"] < full["alignment_high"]
    assert full["low"] < full["value"] < full["high"]
    assert full["excess"] == pytest.approx(full["value"] - rows["vanilla", "none", 0.0]["value"])
    assert 0.2 < full["excess_low"] < full["excess"] < full["excess_high"]
    assert two["share_alignment"] == pytest.approx(0.47 / 0.51)
    assert two["share_excess"] == pytest.approx(two["excess"] / full["excess"])
    assert {at: r["mark"] for at, r in rows.items() if r["mark"]} == {("vim", "epoch", 2.0): "earliest"}


def test_where_nothing_was_aligned_no_epoch_keeps_it() -> None:
    table = dosed(HARM, dict.fromkeys(HARM, -0.02))
    assert set(table["mark"]) == {""}
    assert not table["share_alignment"].count()


def test_strengths_are_doses_of_one_arm() -> None:
    profiles = [weakened(extreme(n), s) for n in NAMES for s in (0.5, 1.0)]
    assert {p.target for p in profiles} == set(NAMES)
    cells = Cells()
    cells.scorers["beavertails"] = SCORER
    rows = []
    for profile in (None, *profiles):
        values = [float(n < (30 if profile and profile.strength == 1 else 10)) for n in range(PROMPTS)]
        frame = pl.DataFrame({"id": [f"p{n}" for n in range(PROMPTS)], "category": "", "value": values})
        arm = "icl" if profile else "vanilla"
        cells.add(Subject(arm, profile, "input-only"), "beavertails", "flagged_rate", frame)
        if profile:
            rows += [ratings("vanilla", profile, [2.0] * 10), ratings("icl", profile, moved(profile, 0.6))]
    table = dose_table(
        cells, table_of(*rows), ["vanilla", "icl"], ["icl"], ["input-only"], profiles, Analysis()
    )
    rows = {(r["kind"], r["level"]): r for r in table.to_dicts()}
    assert list(rows) == [("none", 0.0), ("strength", 0.5), ("full", 1.0)]
    assert (rows["strength", 0.5]["value"], rows["full", 1.0]["value"]) == (0.25, 0.75)
    assert rows["strength", 0.5]["alignment"] == pytest.approx(0.3)
    assert rows["full", 1.0]["alignment"] == pytest.approx(0.6)
    assert (rows["full", 1.0]["n"], rows["full", 1.0]["mark"]) == (3, "")


def test_a_study_without_doses_has_no_rows() -> None:
    assert not dosed({"vanilla": 0.1, "vim": 0.5}, {"vim": 0.5}, ["vanilla", "vim"]).height
