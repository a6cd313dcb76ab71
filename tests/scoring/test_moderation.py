"""Tests of `unharm.scoring.moderation`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from support.scorers_helpers import service, texts
from unharm.scoring.answer_store import Answers
from unharm.scoring.moderation import Moderation
from unharm.scoring.service_scorer import Limits, ServiceScorer
from unharm.scoring.settings import (
    ModerationSpec,
)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "right")
    monkeypatch.setattr("unharm.scoring.perspective.today", lambda: datetime.date(2026, 12, 31))


@pytest.mark.parametrize(("measures", "expected"), [("flagged", [1.0, 0.0]), ("toxicity", [0.8, 0.2])])
def test_moderation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measures: str, expected: list[float]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "right")

    def reply(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        bad = "idiot" in body["input"]
        scores = {"harassment": 0.8 if bad else 0.2, "self-harm/intent": 0.1}
        result = {"flagged": bad, "categories": {}, "category_scores": scores}
        return 200, {"id": "x", "model": body["model"], "results": [result]}

    with service(reply) as url:
        server = {"url": f"{url}/v1", "key": "OPENAI_API_KEY"}
        spec = ModerationSpec.model_validate({"kind": "moderation", "server": server, "measures": measures})
        scorer = Moderation(spec, "v", "scorers.m")
        scorer.try_out(lambda: None)
        scores = ServiceScorer(scorer, Answers(tmp_path / "a.sqlite"), Limits())(texts("idiot", "hello"))
    assert [s.value for s in scores] == expected
    assert "self-harm/intent" in json.loads(scores[0].raw)["scores"]
