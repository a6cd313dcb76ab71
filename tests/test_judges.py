"""Judges: replies read strictly, rubrics checked, a faulty server, limits, resuming, injections."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import judges
from support.servers import Faulty, serving
from unharm.core.errors import UserError
from unharm.core.records import Score
from unharm.run.pipeline import run_study
from unharm.run.shards import all_shards
from unharm.scoring.answer_store import Answer, Answers, key_of
from unharm.scoring.judge import Judge
from unharm.scoring.rubric import EMBEDDED, Rubric, load_rubric
from unharm.scoring.service_scorer import Limits, ServiceScorer
from unharm.scoring.settings import JudgeSpec
from unharm.scoring.texts import Text


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)


@pytest.fixture
def harmfulness() -> Rubric:
    return load_rubric("harmfulness")


@pytest.fixture
def safety() -> Rubric:
    return load_rubric("safety")


# ---- replies -----------------------------------------------------------------------------


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
    assert not found or found.label == label


@given(st.text())
def test_no_reply_breaks_the_reader(reply: str) -> None:
    for name in EMBEDDED:
        rubric = load_rubric(name)
        found = rubric.read(reply)
        assert found is None or 0 <= found.value <= 5
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


# ---- rubrics -----------------------------------------------------------------------------

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


# ---- a faulty server ---------------------------------------------------------------------


def spec_of(faulty: Faulty, **more: Any) -> JudgeSpec:
    server = {"url": faulty.url, "attempts": 3, "timeout": 1.5, "concurrency": 16}
    return JudgeSpec.model_validate({"kind": "judge", "model": "small", "server": server} | more)


def scorer_of(faulty: Faulty, folder: Path, **more: Any) -> ServiceScorer:
    spec = spec_of(faulty, **more)
    judge = Judge(spec, load_rubric(spec.rubric), "v", "scorers.judge")
    answers = Answers(folder / "answers.sqlite")
    count, spent = answers.spent("v")
    return ServiceScorer(judge, answers, Limits(count, spent, spec.max_requests, spec.max_cost, spec.rate))


def cases(count: int) -> list[Text]:
    return [Text(str(n), judges.prompt_of(n), judges.answer_of(n), "") for n in range(count)]


def test_every_text_ends_with_a_status_and_the_right_verdict(tmp_path: Path) -> None:
    count = 6 * len(judges.NAMES)
    with serving(judges.judge()) as faulty:
        scorer = scorer_of(faulty, tmp_path)
        scores = scorer(cases(count))
        first = faulty.tries.total()
        again = scorer_of(faulty, tmp_path)
        repeated = again(cases(count))
        second = faulty.tries.total() - first
    assert [s.completion_id for s in scores] == [str(n) for n in range(count)]
    assert Counter(s.status for s in scores) == judges.expected(count)
    for number, score in enumerate(scores):
        if score.status == "scored":
            assert score.value == judges.right(number), judges.NAMES[number % len(judges.NAMES)]
        else:
            assert score.value is None
            assert score.reason
    answered = [s for s in scores if s.status != "unanswered"]
    assert [s for s in repeated if s.status != "unanswered"] == answered
    unanswered = count - len(answered)
    assert second == 3 * unanswered, "only what was not answered is asked again"
    assert again.tally["found"] == len(answered)


def test_an_unread_reply_is_kept_with_its_score(tmp_path: Path) -> None:
    number = judges.NAMES.index("prose")
    with serving(judges.judge()) as faulty:
        score = scorer_of(faulty, tmp_path)([cases(number + 1)[number]])[0]
    assert (score.status, score.reason) == ("unscored", "no verdict in 3 answers")
    assert score.raw == "I would call this a four."


def test_a_judge_that_obeys_instructions_is_not_reached_by_those_of_a_text(tmp_path: Path) -> None:
    """The same judge does obey where nothing is marked off."""
    texts = [t for t in cases(200) if judges.INJECTED in t.answer]
    with serving(judges.judge()) as faulty:
        scores = scorer_of(faulty, tmp_path)(texts)
        bodies = [b["messages"][-1]["content"] for b in faulty.bodies]
    assert [s.value for s in scores] == [judges.right(int(t.id)) for t in texts]
    assert 1 not in [s.value for s in scores]
    bare = [judges.FENCE.sub(lambda m: m[2], b) for b in bodies]
    assert {judges.judged(b) for b in bare} == {1}


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


@pytest.mark.parametrize(
    ("change", "what"),
    [(lambda f: {"model": "other"}, "does not know"),
     (lambda f: {"server": {"url": "http://127.0.0.1:9/v1", "attempts": 1}}, "the connection broke"),
     (lambda f: {"server": {"url": f.url, "key": "WRONG_KEY"}}, "does not accept the key in WRONG_KEY")],
)  # fmt: skip
def test_a_server_that_cannot_be_used_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Faulty], dict[str, Any]], what: str
) -> None:
    monkeypatch.setenv("WRONG_KEY", "not-the-key")
    with serving(Faulty(judges.plan, says=judges.says, key="the-key")) as faulty:
        if "model" in change(faulty):
            faulty.key = ""
        spec = spec_of(faulty, **change(faulty))
        with pytest.raises(UserError) as error:
            Judge(spec, load_rubric("harmfulness"), "v", "scorers.judge").try_out(lambda: None)
    assert what in str(error.value)
    assert "not-the-key" not in str(error.value)


@pytest.mark.parametrize("refuses", ["response_format", "max_tokens", "both"])
def test_servers_are_asked_in_a_way_that_they_accept(tmp_path: Path, refuses: str) -> None:
    faulty = judges.judge()

    def plan(prompt: str, attempt: int) -> str:
        body = faulty.bodies[-1]
        odd = {"response_format", "max_tokens"} & set(body)
        wrong = odd if refuses == "both" else odd & {refuses}
        return "filtered" if wrong else "answer"  # any HTTP 400 will do

    faulty.plan = plan
    with serving(faulty):
        judge = Judge(spec_of(faulty), load_rubric("harmfulness"), "v", "scorers.judge")
        judge.try_out(lambda: None)
        body = judge.settings(cases(1)[0], 1)
    assert ("response_format" in body) == (refuses == "max_tokens")
    assert ("max_completion_tokens" in body) == (refuses != "response_format")


# ---- answers -----------------------------------------------------------------------------


def test_answers_outlive_their_process_and_keep_their_order(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "a.sqlite")
    key, other = key_of("v", "p", "a"), key_of("v", "pa", "")
    assert key != other
    answers.put(key, 2, "v", Answer("second", cost=0.5))
    answers.put(key, 1, "v", Answer("first", "refused", "r", 3, 4, 0.25))
    answers.put(key, 1, "v", Answer("later"))
    again = Answers(tmp_path / "a.sqlite")
    assert again.look_up([other, key]) == {
        key: [Answer("first", "refused", "r", 3, 4, 0.25), Answer("second", cost=0.5)]
    }
    assert again.spent("v") == (2, 0.75)
    assert again.spent("w") == (0, 0.0)


def test_a_damaged_file_of_answers_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"this is no database " * 100)
    answers = Answers(path)
    answers.put(key_of("v", "t"), 1, "v", Answer("4"))
    assert len(answers.look_up([key_of("v", "t")])) == 1
    assert len(list(tmp_path.glob("a.sqlite.damaged-*"))) == 1
    assert "set aside" in capsys.readouterr().err


# ---- a study -----------------------------------------------------------------------------


def test_a_judged_study(tmp_path: Path, load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    count = 2 * len(judges.NAMES)
    with serving(judges.judge()) as faulty:
        study = load(judges.judged_study(tmp_path, faulty, count))
        run = run_study(study)
        told = capsys.readouterr().err
        faulty.plan = lambda prompt, attempt: "answer"
        later = run_study(study)
    expected = judges.expected(count)
    assert (run.scored, run.unscored) == (expected["scored"], count - expected["scored"])
    assert f"{expected['refused']} refused" in told
    assert f"{count} texts" in told
    assert later.scored == expected["scored"] + expected["unanswered"]
    unscored = pl.read_csv(later.store.root / "findings" / "unscored.csv")
    assert dict(unscored.group_by("status").agg(pl.col("completions").sum()).iter_rows()) == {
        status: n for status, n in expected.items() if status not in ("scored", "unanswered")
    }
    first = pl.concat([run.store.scan(s.scores) for s in all_shards(run)]).collect()
    assert json.loads(first.filter(pl.col("status") == "scored")["raw"][0])["reason"] == "it is so"
    page = (later.store.root / "report.html").read_text()
    assert judges.INJECTED not in page.partition("Examples")[0]


def test_scores_carry_their_scorer(harmfulness: Rubric) -> None:
    score = Score("c", None, status="refused", reason="r")
    assert score.value is None
