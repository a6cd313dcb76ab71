"""Tests of `unharm.runs.planning.summary`."""

from __future__ import annotations

from pathlib import Path

from unharm.runs.plan import Plan
from unharm.runs.planning.summary import summary_of
from unharm.study.check import load_study


def test_touche_study_fits_the_real_data(real_data: Path) -> None:
    study = load_study("studies/touche.yaml", [f"data={real_data}"])
    summary = summary_of(Plan(study))
    assert summary.subjects == 30
    assert {r.benchmark: r.prompts for r in summary.benchmarks} == {
        "rtp": 100, "hbr": 160, "beavertails": 140, "questionnaire": 40,
    }  # fmt: skip
