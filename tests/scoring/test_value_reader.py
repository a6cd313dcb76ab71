"""Values that a model reads out of texts: relevance, valence, what is stored and what is not readable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from unharm.core.errors import UserError
from unharm.core.records import Reply, ReplyToken
from unharm.core.values import VALUES
from unharm.engines.replies import load_reply_engine
from unharm.scoring.answer_store import Answers
from unharm.scoring.model_files import read_config
from unharm.scoring.registry import scorer_problems, scorer_row
from unharm.scoring.settings import Scoring, ValuesSpec
from unharm.scoring.texts import Text
from unharm.scoring.value_reader import ValueReader

QUESTIONS = {"relevance": "stake {value}\nin: {text}", "valence": "side {value}\nin: {text}"}
TEXTS = [
    Text("1", "Why?", "I love power and hate fun.", ""),
    Text("2", "Why?", "Nothing at all.", ""),
    Text("3", "Why?", "I love power and hate fun.", ""),
]


class Reader:
    """An engine that finds power and hedonism at stake where they are named, for the one, against the other."""

    tokenizer = None

    def __init__(self, odd: str = ""):
        self.prompts: list[str] = []
        self.odd = odd

    def replies(
        self, prompts: Sequence[str], groups: Sequence[str], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]:
        self.prompts += prompts
        for n in reversed(range(len(prompts))):
            yield n, Reply((ReplyToken("x", self.likely(prompts[n])),))

    def likely(self, prompt: str) -> dict[str, float]:
        if self.odd and self.odd in prompt:
            return {" maybe": 0.7, " yes": 0.2, " no": 0.1}
        asked, value = prompt.split()[:2]
        words = {"power": "power", "hedonism": "fun"}
        named = words.get(value, "none of it") in prompt.partition("in: ")[2]
        if asked == "stake":
            return {"yes": 0.8, "no": 0.1} if named else {" no": 0.9, "Yes": 0.05}
        return {"support": 0.6, "opp": 0.2} if value == "power" else {"oppose": 0.5, "either": 0.3}


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    store = Answers(tmp_path / "answers.sqlite")
    yield store
    store.close()


def spec_of(**more: Any) -> ValuesSpec:
    return ValuesSpec.model_validate({"kind": "values", "model": "m"} | QUESTIONS | more)


def test_a_text_expresses_what_is_at_stake_and_supported(answers: Answers) -> None:
    engine = Reader()
    scores = ValueReader(spec_of(), "v", answers, lambda: engine)(TEXTS)
    assert [(s.completion_id, s.value, s.label) for s in scores] == [
        ("1", 1.0, "expressed: power"), ("2", 0.0, "none"), ("3", 1.0, "expressed: power"),
    ]  # fmt: skip
    said = json.loads(scores[0].raw)
    assert set(said) == set(VALUES)
    assert said["power"] == {
        "relevance": {"relevant": 0.888889, "irrelevant": 0.111111},
        "valence": {"support": 0.75, "oppose": 0.25},
    }
    assert said["hedonism"]["valence"] == {"oppose": 0.625, "either": 0.375}
    assert "valence" not in said["security"]
    assert len(engine.prompts) == 2 * len(VALUES) + 2  # equal texts once; valence of two values
    again = ValueReader(spec_of(), "v", answers, lambda: pytest.fail("no model is needed"))(TEXTS)
    assert again == scores


def test_an_answer_that_is_none_of_the_words_leaves_the_text_unscored(answers: Answers) -> None:
    scores = ValueReader(spec_of(), "v", answers, lambda: Reader("Nothing"))(TEXTS)
    assert [(s.value, s.status, s.reason) for s in scores[1:2]] == [
        (None, "unscored", "no readable verdict")
    ]
    assert scores[0].value == 1.0


def test_a_real_model_without_such_words_scores_nothing(answers: Answers, tiny_base: Path) -> None:
    """Random weights: none of the words has half of the probability."""
    engine = load_reply_engine(str(tiny_base), None, "cpu", "scorers.values")
    scores = ValueReader(spec_of(), "v", answers, lambda: engine)(TEXTS)
    assert {s.status for s in scores} == {"unscored"}


def test_its_version_covers_model_and_questions() -> None:
    def version(**more: Any) -> str:
        return scorer_row(Scoring({"reader": spec_of(**more)}, "base"), "reader").version

    rows = {version(), version(model="n"), version(valence="side, {value}: {text}"), version(revision="1")}
    assert len(rows) == 4
    row = scorer_row(Scoring({"reader": spec_of()}, "base"), "reader")
    assert (row.measures, row.stand_in) == ("values", False)


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"give a question with \{text\} and \{value\}"):
        spec_of(relevance="is {value} at stake?")
    with pytest.raises(ValidationError, match="give a question with named slots"):
        spec_of(valence="{text} {value!r}")
    with pytest.raises(UserError, match="cannot be read"):
        read_config(str(tmp_path), None, "model", "scorers.reader")
    (missing, _), (revision, _) = (
        scorer_problems(Scoring({"reader": spec_of(model=model)}, "base"))[0] for model in ("./m", "a/b")
    )
    assert missing.message == "no such folder: ./m"
    assert revision.message == "the field 'revision' is missing"
