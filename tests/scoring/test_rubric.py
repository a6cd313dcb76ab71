"""Rubrics: replies are read strictly, templates are checked, marked lines keep a text inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import judges
from unharm.core.errors import UserError
from unharm.core.records import Score
from unharm.scoring.rubric import EMBEDDED, Rubric, load_rubric
from unharm.scoring.texts import Text


@pytest.fixture
def harmfulness() -> Rubric:
    return load_rubric("harmfulness")


@pytest.fixture
def safety() -> Rubric:
    return load_rubric("safety")


@pytest.mark.parametrize(
    ("reply", "value"),
    [("4", 4), ("4/5", 4), ("**4**", 4), (" 4.\n", 4), ("4\nIt helps a lot.", 4), ("`5`", 5), ("4 / 5", 4),
     ('{"reason": "r", "verdict": 2}', 2), ('```json\n{"verdict": 3, "reason": ""}\n```', 3),
     ('{"verdict": "3"}', 3), ("<think>5? no, 1.</think>\n2", 2),
     ("0", None), ("7", None), ("4/10", None), ("4.5", None), ("-4", None), ("4 or 5", None), ("four", None),
     ("Score: 4", None), ("The score is 4", None), ("", None), ("4 because it helps", None), ("44", None),
     ('{"verdict": 0}', None), ('{"verdict": 4.5}', None), ('{"verdict": true}', None), ('{"verdict": 4', None),
     ('{"score": 4}', None), ("[4]", None), ("4\x00", None), ("①", None), ("٤", None)],
)  # fmt: skip
def test_scores_are_read_strictly(harmfulness: Rubric, reply: str, value: float | None) -> None:
    found = harmfulness.read(reply)
    assert (found.value if found else None) == value


@pytest.mark.parametrize(
    ("reply", "value", "label"),
    [("unsafe", 1, "unsafe"), ("**Safe**", 0, "safe"), ("unsafe\n2, 11\nIt …", 1, "unsafe: child abuse, self-harm"),
     ("safe\n-\nHarmless.", 0, "safe"),
     ('{"verdict": "unsafe", "categories": ["self-harm", "made up"], "reason": "r"}', 1, "unsafe: self-harm"),
     ("not unsafe", None, ""), ("unsafe/safe", None, ""), ("1", None, ""), ('{"verdict": 1}', None, "")],
)  # fmt: skip
def test_verdicts_are_read_strictly(safety: Rubric, reply: str, value: float | None, label: str) -> None:
    found = safety.read(reply)
    assert (found.value if found else None) == value
    assert (found.label if found else "") == label


@given(st.text())
def test_no_reply_breaks_the_reader(reply: str) -> None:
    for name in EMBEDDED:
        rubric = load_rubric(name)
        found = rubric.read(reply)
        assert 0 <= (found.value if found else 0) <= 5
        assert isinstance(rubric.refused(reply), bool)


@given(st.text(), st.text())
def test_nothing_under_judgement_gets_outside_its_marked_lines(prompt: str, answer: str) -> None:
    rubric = load_rubric("harmfulness")
    plain = rubric.messages(Text("", "", "", ""), True)[1]["content"]
    said = rubric.messages(Text("", prompt, answer, ""), True)[1]["content"]
    assert [b[1] for b in judges.FENCE.findall(said)] == [prompt, answer]
    assert judges.FENCE.sub("", said) == judges.FENCE.sub("", plain)


def test_slots_inside_a_text_are_left_alone(harmfulness: Rubric) -> None:
    said = harmfulness.messages(Text("", "{answer}", "{prompt} {0}", ""), False)[1]["content"]
    assert [b[1] for b in judges.FENCE.findall(said)] == ["{answer}", "{prompt} {0}"]


GOOD = "name: mine\nmeasures: harmfulness\nscale: {low: 1, high: 5}\nsystem: Judge.\nuser: '{prompt} {answer}'\n"


def test_a_rubric_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    rubric = load_rubric(str(tmp_path / "mine.yaml"))
    assert (rubric.name, rubric.scale) == ("mine", (1, 5))
    assert rubric.key != load_rubric("harmfulness").key


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [("{prompt} {answer}", "{prompt}", "the slot {answer} is missing"),
     ("{prompt} {answer}", "{answer}", "the slot {prompt} is missing"),
     ("measures: harmfulness", "measures: harm", "unknown measure 'harm'"),
     ("scale: {low: 1, high: 5}", "scale: {low: 5, high: 1}", "not a scale"),
     ("scale: {low: 1, high: 5}", "scale: {low: 0, high: 7}", "harmfulness is a number from 1 to 5"),
     ("scale: {low: 1, high: 5}", "verdicts: {safe: 0}", "not verdicts"),
     ("scale: {low: 1, high: 5}", "", "either 'scale' or 'verdicts'"),
     ("system: Judge.", "", "'system' is missing"),
     ("name: mine", "name: mine\nmood: good", "unknown field 'mood'"),
     ("name: mine", "name: [", "not valid YAML")],
)  # fmt: skip
def test_mistakes_of_a_rubric_are_told(tmp_path: Path, old: str, new: str, what: str) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(UserError) as error:
        load_rubric(str(tmp_path / "mine.yaml"))
    assert what in str(error.value)
    assert "mine.yaml" in str(error.value)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_rubrics_ask_for_what_they_read(name: str) -> None:
    rubric = load_rubric(name)
    schema = rubric.schema()["properties"]["verdict"]["enum"]
    assert all(rubric.read(str(v)) for v in schema)
    for structured in (True, False):
        system, user = rubric.messages(Text("", "q", "a", ""), structured)
        assert "{" not in system["content"] + user["content"]
        assert all(c in system["content"] for c in rubric.categories)


def test_scores_carry_their_scorer(harmfulness: Rubric) -> None:
    score = Score("c", None, status="refused", reason="r")
    assert score.value is None
