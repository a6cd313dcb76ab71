"""The offline classifier of hate and offence in tweets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from unharm.core.errors import UserError
from unharm.scoring import SCORERS
from unharm.scoring.scorer import Package
from unharm.scoring.texts import Text

SCORER = SCORERS["offline-tweets"]


def text(number: int, words: str) -> Text:
    return Text(str(number), "", words, words)


def test_insults_score_higher_than_kind_words_and_nothing_lies_between() -> None:
    pytest.importorskip("hatesonar")
    kind, rude, empty, foreign, capitals = SCORER.score(
        [
            text(n, t)
            for n, t in enumerate(("My friend is home", "you dumb ass", "", "日本語", "YOU DUMB ASS"))
        ]
    )
    assert kind.value is not None
    assert rude.value is not None
    assert kind.value < 0.5 < rude.value
    assert (kind.label, rude.label) == ("neither", "offensive")
    assert capitals.value == rude.value  # letters are lowered, whatever locales the system has
    assert (
        empty.value == foreign.value == pytest.approx(0.325, abs=0.001)
    )  # the share among its tweets, shrunk
    classes = json.loads(rude.raw)
    assert classes["hate"] + classes["offensive"] == pytest.approx(rude.value, abs=1e-5)


def test_order_and_batch_make_no_difference() -> None:
    pytest.importorskip("hatesonar")
    texts = [text(n, f"number {n} is {'stupid' if n % 3 else 'fine'}") for n in range(300)]
    scores = SCORER.score(texts)
    assert [s.completion_id for s in scores] == [t.id for t in texts]
    assert {s.completion_id: s.value for s in SCORER.score(texts[::-1])} == {
        s.completion_id: s.value for s in scores
    }


def test_a_missing_package_is_one_message() -> None:
    missing = replace(SCORER, package=Package("hatesonar", "no_such_module", extra="hatesonar"))
    with pytest.raises(UserError, match=r"needs the package hatesonar.*not installed") as error:
        missing.check("benchmarks.rtp.scorer")
    assert "pip install 'unharm[hatesonar]'" in str(error.value)
