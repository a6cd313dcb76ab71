"""Tests of `unharm.scoring.service_scorer`."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from support import judges
from support.judges_helpers import cases, scorer_of
from support.scorers_helpers import texts
from support.servers import serving
from unharm.core.records import Score
from unharm.scoring.answer_store import Answer
from unharm.scoring.perspective import Perspective
from unharm.scoring.settings import (
    PerspectiveSpec,
)
from unharm.scoring.texts import Text


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)


def test_equal_texts_are_asked_about_once(tmp_path: Path) -> None:
    texts = [Text(str(n), judges.prompt_of(0), judges.answer_of(0), "") for n in range(50)]
    with serving(judges.judge()) as faulty:
        scores = scorer_of(faulty, tmp_path)(texts)
        assert faulty.tries.total() == 1
    assert [s.completion_id for s in scores] == [str(n) for n in range(50)]


def test_limits_stop_before_they_are_passed_and_the_rest_goes_on(tmp_path: Path) -> None:
    plain = [n for n in range(22 * 40) if judges.NAMES[n % 22] == "plain"]
    texts = [cases(n + 1)[n] for n in plain]
    with serving(judges.judge()) as faulty:
        scores = scorer_of(faulty, tmp_path, max_requests=15)(texts)
        assert faulty.tries.total() == 15
        assert Counter(s.status for s in scores) == {"scored": 15, "unanswered": 25}
        assert {s.reason for s in scores if s.status == "unanswered"} == {"max_requests is reached"}
        scores = scorer_of(faulty, tmp_path)(texts)
        assert faulty.tries.total() == 40
        assert {s.status for s in scores} == {"scored"}


def test_money_is_counted_and_never_passes_its_limit(tmp_path: Path) -> None:
    """An answer of the test server has 7 + 3 tokens; what a request may cost at most is set aside first."""
    texts = [t for t in cases(22 * 40) if judges.NAMES[int(t.id) % 22] == "plain"]
    price = {"input": 1e3, "output": 1e3}
    with serving(judges.judge()) as faulty:
        scorer = scorer_of(faulty, tmp_path, price=price, max_cost=0.7, max_tokens=10)
        most = scorer.service.most(texts[0])
        scores = scorer(texts)
    scored = sum(s.status == "scored" for s in scores)
    assert scorer.limits.spent == pytest.approx(0.01 * scored)
    assert 0 < scored < 40
    assert scorer.limits.spent <= 0.7
    assert 0.01 * scored + most > 0.7, "it went on for as long as another request would fit"
    assert {s.reason for s in scores if s.value is None} == {"max_cost is reached"}


def test_requests_keep_to_their_rate(tmp_path: Path) -> None:
    texts = [t for t in cases(22 * 12) if judges.NAMES[int(t.id) % 22] == "plain"]
    with serving(judges.judge()) as faulty:
        began = time.monotonic()
        scorer_of(faulty, tmp_path, rate=20)(texts)
        assert time.monotonic() - began >= 11 / 20 - 0.01
        times = sorted(t for several in faulty.when.values() for t in several)
    assert times[-1] - times[0] >= 0.4


def test_answers_of_a_service_are_read_anew(tmp_path: Path) -> None:
    answer = Answer(json.dumps({"TOXICITY": 0.25, "INSULT": 0.75}))
    for attribute, value in (("TOXICITY", 0.25), ("INSULT", 0.75)):
        scorer = object.__new__(Perspective)
        scorer.spec = PerspectiveSpec(kind="perspective", attribute=attribute)
        score = scorer.read(texts("x")[0], answer)
        assert isinstance(score, Score)
        assert score.value == value
