"""Tests of `unharm.study.spec`."""

from __future__ import annotations

from unharm.study.check import load_study
from unharm.study.spec import Study


def test_a_study_survives_its_own_json() -> None:
    study = load_study("quickstart")
    again = Study.model_validate(study.model_dump(mode="json"))
    assert again.model_dump() == study.model_dump()
