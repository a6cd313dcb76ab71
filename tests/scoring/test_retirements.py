"""Tests of `unharm.scoring.retirements`."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from unharm.core.connection import Connection
from unharm.scoring.retirements import alias_note, end_note, ended, retirement_of
from unharm.scoring.settings import JudgeSpec, PerspectiveSpec

START = datetime.date(2026, 11, 24)
OPENAI = Connection(url="https://api.openai.com/v1")


def judge(model: str, server: Connection = OPENAI) -> JudgeSpec:
    return JudgeSpec(kind="judge", server=server, model=model)


def test_a_study_that_would_not_finish_is_told_so() -> None:
    note = end_note("perspective", PerspectiveSpec(kind="perspective"), 53 * 24, START)
    assert note.startswith(
        "perspective ends on 2026-12-31, in 37 days, and this study asks it for 53 days: it"
    )
    assert "unharm pilot STUDY --from perspective" in note


@pytest.mark.parametrize(
    ("model", "day"),
    [("gpt-4o-2024-08-06", "2027-01-14"), ("gpt-4.1-mini", "2027-01-14"), ("gpt-6-luna", None)],
)
def test_models_end_by_their_names(model: str, day: str | None) -> None:
    end = retirement_of(judge(model))
    assert (str(end) if end else None) == day
    assert bool(end_note("j", judge(model), None, START)) == (day is not None)


def test_a_service_past_its_end_is_one_problem(monkeypatch: Any) -> None:
    perspective = PerspectiveSpec(kind="perspective")
    assert not ended(perspective, "scorers.p", datetime.date(2026, 12, 31))
    (problem,) = ended(perspective, "scorers.p", datetime.date(2027, 1, 1))
    assert str(problem).startswith(
        "scorers.p: the service commentanalyzer.googleapis.com ended on 2026-12-31"
    )
    (gone,) = ended(judge("gpt-4o-2024-05-13"), "scorers.j", START)
    assert "ended on" in str(gone)


def test_an_alias_is_named_where_models_have_dates() -> None:
    local = Connection(url="http://127.0.0.1:9/v1")
    assert alias_note("j", judge("gpt-6-luna")).startswith("j: gpt-6-luna has no date")
    for spec in (judge("gpt-6-luna-2026-10-01"), judge("gpt-6-luna", local)):
        assert alias_note("j", spec) == ""


def test_the_same_names_on_another_server_do_not_end() -> None:
    local = Connection(url="http://127.0.0.1:9/v1")
    later = datetime.date(2030, 1, 1)
    assert not ended(judge("gpt-4o", local), "scorers.j", later)
    assert not ended(PerspectiveSpec(kind="perspective", url="http://127.0.0.1:9"), "scorers.p", later)
