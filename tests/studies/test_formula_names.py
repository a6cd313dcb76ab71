"""Profiles whose names a spreadsheet would run: guarded in CSV, as they were wherever we read them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import unharm
from support.studies import study_data
from unharm.core.values import VALUES
from unharm.profiles.table import read_profiles
from unharm.runs.adapters import loss_curves
from unharm.runs.reopen import open_run

NAMES = ["=1+1", "'=2+2", "@SUM(1)", "-x", "plain", "+y"]
"""The second has a quote already: it gets one more, and gives it back."""


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> unharm.RunHandle:
    folder = tmp_path_factory.mktemp("formulas")
    rows = {n: {v: 6 if i == m else 1 for m, v in enumerate(VALUES)} for i, n in enumerate(NAMES)}
    (folder / "profiles.yaml").write_text(yaml.safe_dump(rows))
    data: dict[str, Any] = study_data(tiny_base, folder / "run")
    data |= {"profiles": [str(folder / "profiles.yaml")], "arms": ["vanilla", "icl", "vim"]}
    data["benchmarks"]["hexphi"] = {"file": "hexphi", "max_tokens": 3}
    data["mitigation"] = {"benchmarks": ["hexphi"]}
    return unharm.run(data, progress="none")


def cells(file: Path) -> set[str]:
    with file.open(encoding="utf-8", newline="") as rows:
        return {cell for row in csv.reader(rows) for cell in row}


def test_no_table_of_a_run_has_a_formula(run: unharm.RunHandle) -> None:
    files = sorted(run.folder.rglob("*.csv"))
    assert {"profiles.csv", "curves.csv", "subjects.csv"} <= {file.name for file in files}
    for file in files:
        assert not cells(file) & set(NAMES) - {"plain"}, file
    assert {"'" + n for n in NAMES if n != "plain"} <= cells(run.folder / "findings" / "subjects.csv")


def test_what_reads_the_tables_gives_the_names_back(run: unharm.RunHandle) -> None:
    subjects = run.table("subjects")
    assert set(subjects["profile"].drop_nulls()) - {""} == set(NAMES)
    with open_run(run.folder) as again:
        assert set(loss_curves(again)["profile"].drop_nulls()) == set(NAMES)
    frame = run.completions(arm="vim", profile="=1+1").collect()
    assert frame.height > 0
    assert set(frame["profile"]) == {"=1+1"}


def test_the_report_shows_the_names_as_they_are(run: unharm.RunHandle) -> None:
    page = run.report.read_text(encoding="utf-8")
    assert "=1+1" in page
    assert not [quote for quote in ("'", "&#39;", "&#x27;") if f"{quote}=1+1" in page]


def test_the_profiles_of_a_run_are_profiles_of_another(run: unharm.RunHandle) -> None:
    again = read_profiles(run.folder / "profiles" / "profiles.csv")
    assert sorted(p.name for p in again) == sorted(NAMES)


def test_mitigation_finds_its_half_by_name(run: unharm.RunHandle) -> None:
    half = json.loads((run.folder / "mitigation" / "study.json").read_text())["profiles"][0]["names"]
    assert set(half) < set(NAMES)
    second = unharm.open_run(run.folder / "mitigation").table("subjects")
    assert set(second["profile"].drop_nulls()) - {""} == set(half)
