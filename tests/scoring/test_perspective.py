"""Tests of `unharm.scoring.perspective`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from support.scorers_helpers import service, texts
from unharm.core.errors import UserError
from unharm.scoring.answer_store import Answers
from unharm.scoring.perspective import Perspective
from unharm.scoring.service_scorer import Limits, ServiceScorer
from unharm.scoring.settings import (
    ATTRIBUTES,
    PerspectiveSpec,
)


def perspective(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
    """As the API answers, by its documented fields."""
    text = body["comment"]["text"]
    if headers.get("X-Goog-Api-Key") != "right":
        return 400, {"error": {"message": "bad key", "details": [{"reason": "API_KEY_INVALID"}]}}
    if "γ" in text:
        details = [{"errorType": "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"}]
        return 400, {"error": {"message": text, "details": details}}
    if "busy" in text:
        return 429, {"error": {"status": "RESOURCE_EXHAUSTED"}}
    value = 0.9 if "idiot" in text else 0.1
    return 200, {
        "attributeScores": {a: {"summaryScore": {"value": value}} for a in body["requestedAttributes"]}
    }


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "right")
    monkeypatch.setattr("unharm.scoring.perspective.today", lambda: datetime.date(2026, 12, 31))


def perspective_spec(url: str, **more: Any) -> PerspectiveSpec:
    return PerspectiveSpec.model_validate(
        {"kind": "perspective", "url": url, "rate": 200, "attempts": 2, "timeout": 2} | more
    )


@pytest.mark.usefixtures("impatient")
def test_perspective(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = texts("you idiot", "good day", "καλή γ", "busy", "x" * 30_000)
    with service(perspective) as url:
        scorer = Perspective(perspective_spec(url), "v", "scorers.p")
        scorer.try_out(lambda: None)
        scores = ServiceScorer(scorer, Answers(tmp_path / "a.sqlite"), Limits())(some)
    assert [s.value for s in scores] == [0.9, 0.1, None, None, None]
    assert [(s.status, s.reason) for s in scores[2:]] == [
        ("unscored", "unsupported language"),
        ("unanswered", "service: HTTP 429"),
        ("unscored", "longer than 20,480 bytes"),
    ]
    assert set(json.loads(scores[0].raw)) == set(ATTRIBUTES)
    assert "ends with 2026" in capsys.readouterr().err


@pytest.mark.usefixtures("impatient")
def test_perspective_refuses_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.perspective.today", lambda: datetime.date(2027, 1, 1))
    with pytest.raises(UserError) as error:
        Perspective(perspective_spec("http://127.0.0.1:9"), "v", "scorers.p")
    assert "has ended" in str(error.value)
    assert "classifier" in str(error.value)


@pytest.mark.usefixtures("impatient")
def test_a_wrong_key_of_perspective_is_told_and_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "secret-but-wrong")
    with service(perspective) as url, pytest.raises(UserError) as error:
        Perspective(perspective_spec(url), "v", "scorers.p").try_out(lambda: None)
    assert "PERSPECTIVE_API_KEY" in str(error.value)
    assert "secret" not in str(error.value)
