"""Tests of `unharm.scoring.judge`."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from support import judges
from support.judges_helpers import cases, scorer_of, spec_of
from support.servers import Faulty, serving
from unharm.core.connection import CONNECT
from unharm.core.errors import UserError
from unharm.runs.pipeline import run_study
from unharm.scoring.answer_store import CUT
from unharm.scoring.judge import Judge
from unharm.scoring.rubric import load_rubric
from unharm.scoring.service_calls import TRIAL_LOSSES, client_of
from unharm.scoring.settings import JudgeSpec


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)


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
    verdicts = [judges.right(n) if s.status == "scored" else None for n, s in enumerate(scores)]
    assert [s.value for s in scores] == verdicts
    assert all(s.reason for s in scores if s.status != "scored")
    answered = [s for s in scores if s.status != "unanswered"]
    assert [s for s in repeated if s.status != "unanswered"] == answered
    unanswered = count - len(answered)
    assert second == 3 * unanswered, "only what was not answered is asked again"
    assert again.tally["stored"] == len(answered)


def test_an_unread_reply_is_kept_with_its_score(tmp_path: Path) -> None:
    number = judges.NAMES.index("prose")
    with serving(judges.judge()) as faulty:
        score = scorer_of(faulty, tmp_path)([cases(number + 1)[number]])[0]
    assert (score.status, score.reason) == (
        "unscored",
        "no verdict in 3 answers, the last one cut at its limit",
    )
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


def reply(content: str | None, finish: str = "stop", **message: Any) -> ChatCompletion:
    """A chat completion as servers give it."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content} | message,
    }
    more = {"model": "small-2026-01-01", "system_fingerprint": "fp_1"}
    return ChatCompletion.model_validate(
        {"id": "x", "object": "chat.completion", "created": 0, "choices": [choice]} | more
    )


@pytest.mark.parametrize(
    ("response", "verdict", "thought"),
    [
        (
            reply('<think>first 2,\nthen {"verdict": 1}</think>\n4'),
            4.0,
            '<think>first 2,\nthen {"verdict": 1}</think>',
        ),
        (reply('{"reason": "x", "verdict": 4}', reasoning_content="a 2?"), 4.0, "a 2?"),
        (reply("4", reasoning="a 2?"), 4.0, "a 2?"),
        (reply("<think>2 2 2", "length"), None, "<think>2 2 2"),
        (reply(None, "length", reasoning="2 2"), None, "2 2"),
    ],
)
def test_the_reasoning_of_a_judge_is_kept_apart_from_its_verdict(
    tmp_path: Path, response: ChatCompletion, verdict: float | None, thought: str
) -> None:
    with serving(judges.judge()) as faulty:
        judge = Judge(
            spec_of(faulty, reasoning_effort="low"), load_rubric("harmfulness"), "v", "scorers.judge"
        )
    answer = judge.answer_of(response)
    assert answer.thought == thought
    assert answer.model == "small-2026-01-01 fp_1"
    score = judge.read(cases(1)[0], answer)
    assert (score.value if score else None) == verdict
    assert "2" not in answer.raw
    assert answer.reason == ("" if verdict else CUT)


def test_a_reasoning_judge_has_room_to_reason_and_more_at_each_try() -> None:
    with serving(judges.judge()) as faulty:
        reasoning = Judge(spec_of(faulty, reasoning_effort="high"), load_rubric("harmfulness"), "v", "x")
        plain = Judge(spec_of(faulty), load_rubric("harmfulness"), "v", "x")
        greedy = Judge(spec_of(faulty, thinking=100, temperature=0.0), load_rubric("harmfulness"), "v", "x")
    bodies = [reasoning.settings(cases(1)[0], attempt) for attempt in (1, 2, 3)]
    assert [b["max_tokens"] for b in bodies] == [8492, 16984, 33968]
    assert all(b["reasoning_effort"] == "high" and "temperature" not in b for b in bodies)
    assert [plain.settings(cases(1)[0], attempt)["max_tokens"] for attempt in (1, 3)] == [300, 300]
    assert "reasoning_effort" not in plain.settings(cases(1)[0], 1)
    body = greedy.settings(cases(1)[0], 1)
    assert (body["max_tokens"], body["temperature"]) == (400, 0.0)


def test_a_verdict_that_is_always_cut_says_so_and_the_snapshot_is_recorded(tmp_path: Path) -> None:
    with serving(judges.judge()) as faulty:
        scorer = scorer_of(faulty, tmp_path)
    judge = scorer.service
    assert isinstance(judge, Judge)
    judge.ask = lambda text, attempt, before: judge.answer_of(reply("<think>2", "length"))  # type: ignore[method-assign]
    (score,) = scorer(cases(1))
    assert (score.status, score.reason) == (
        "unscored",
        "no verdict in 3 answers, the last one cut at its limit",
    )
    assert scorer.answers.models("v") == ["small-2026-01-01 fp_1"]
    assert "answered by small-2026-01-01 fp_1" in scorer.summary()


def test_what_is_the_same_for_all_texts_comes_first() -> None:
    """Services keep the common beginning of requests."""
    rubric = load_rubric("harmfulness")
    one, other = (rubric.messages(text, structured=True) for text in cases(2))
    assert one[0] == other[0]
    assert len(one[0]["content"]) > 800
    assert one[1]["content"].index(cases(1)[0].prompt) < 100


@pytest.mark.parametrize("attempts", [1, 6])
def test_a_service_that_cannot_be_reached_is_told_after_two_connections(
    attempts: int,
) -> None:
    """Not after all the attempts that an answer is worth, with their waits: that took minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"  # bound, and not listened to
        server = {"url": url, "attempts": attempts, "timeout": 600}
        spec = JudgeSpec.model_validate({"kind": "judge", "model": "small", "server": server})
        judge = Judge(spec, load_rubric(spec.rubric), "v", "scorers.judge")
        asked: list[None] = []
        with pytest.raises(UserError, match="no use can be made of this service") as error:
            judge.try_out(lambda: asked.append(None))
    assert len(asked) == min(attempts, TRIAL_LOSSES)
    assert url in str(error.value)
    assert client_of(spec.connection, "x").timeout.connect == CONNECT


def test_a_judge_that_is_down_ends_the_study_before_any_work(tiny_study: dict[str, Any], load: Any) -> None:
    server = {"url": "http://127.0.0.1:9/v1", "timeout": 600}
    data = dict(tiny_study)
    data["scorers"] = {"lonely": {"kind": "judge", "model": "m", "server": server}}
    data["benchmarks"] = data["benchmarks"] | {
        "hexphi": data["benchmarks"]["hexphi"] | {"scorer": "lonely"}
    }
    study = load(data)
    with pytest.raises(UserError, match="no use can be made of this service"):
        run_study(study, last="scores")
    assert not Path(study.output_location).exists()
