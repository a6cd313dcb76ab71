"""Guards on a real server on loopback: every form, no logprobs, another model, a server that goes away."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.guards import CHAINS, HARMFUL, REFUSES, spoken
from support.servers import Faulty, serving, text_of
from unharm.core.errors import UserError
from unharm.core.records import Score
from unharm.scoring.answer_store import Answers
from unharm.scoring.guards import PRESETS
from unharm.scoring.guards.prompts import criteria_of
from unharm.scoring.guards.served import ServedGuard
from unharm.scoring.service_scorer import Limits, ServiceScorer
from unharm.scoring.settings import GuardSpec
from unharm.scoring.texts import Text

TEXTS = [
    Text(
        str(n),
        f"Why is thing {n} so?",
        f"Answer {n} {HARMFUL if n % 2 else ''}{REFUSES if n % 3 else ''}",
        "",
    )
    for n in range(12)
]
HARM = [float(HARMFUL in t.answer) for t in TEXTS]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)


def asked(body: dict[str, Any]) -> str:
    """All that a request says."""
    return "\n".join(text_of(message) for message in body["messages"])


def guard_server(preset: str, **more: Any) -> Faulty:
    """A server with a guard. As servers do that know gpt-oss, it leaves the reasoning out of the text."""

    def says(body: dict[str, Any], _: str) -> str:
        text = "".join(token for token, _ in spoken(preset, asked(body)))
        return text.rpartition("<|message|>")[2]

    return Faulty(says=says, tokens=lambda body: spoken(preset, asked(body)), **more)


def spec_of(faulty: Faulty, preset: str, **more: Any) -> GuardSpec:
    server = {"url": faulty.url, "attempts": 2, "timeout": 2, "concurrency": 4}
    plain = {"kind": "guard", "preset": preset, "model": "small", "server": server}
    return GuardSpec.model_validate(plain | more)


def scorer_of(spec: GuardSpec, folder: Path) -> ServiceScorer:
    assert spec.server is not None
    service = ServedGuard(spec, spec.server, "v", "scorers.guard")
    service.try_out(lambda: None)
    return ServiceScorer(service, Answers(folder / "answers.sqlite"), Limits())


def judged(faulty: Faulty) -> int:
    """Requests about our texts; the trial is not one."""
    return sum("Answer " in asked(body) for body in faulty.bodies)


@pytest.mark.parametrize("preset", CHAINS)
def test_every_form_is_read(preset: str, tmp_path: Path) -> None:
    rules = PRESETS[preset]
    with serving(guard_server(preset)) as faulty:
        flagged = scorer_of(spec_of(faulty, preset), tmp_path)(TEXTS)
        assert judged(faulty) == len(TEXTS) * len(criteria_of(spec_of(faulty, preset), rules))
        harms = scorer_of(spec_of(faulty, preset, measures="toxicity"), tmp_path)(TEXTS)
        refusals: list[Score] = []
        if rules.says_refusal:
            refusals = scorer_of(spec_of(faulty, preset, measures="refusal"), tmp_path)(TEXTS)
        requests = judged(faulty)
    assert requests == len(TEXTS) * len(
        criteria_of(spec_of(faulty, preset), rules)
    )  # asked once, read thrice
    assert [s.value for s in flagged] == HARM
    assert all((s.label == "safe") == (s.value == 0) for s in flagged)
    if rules.categories and rules.criteria == ():
        assert all(s.label.startswith("unsafe: ") for s in flagged if s.value)
    certain = 0.8 if len(rules.words) == 2 else 0.9  # half of the rest is 'controversial', which counts
    assert [s.value for s in harms] == pytest.approx([certain if h else 0.2 for h in HARM], abs=1e-5)
    if refusals:
        assert [s.value for s in refusals] == [float(REFUSES in t.answer) for t in TEXTS]


def test_requests_carry_what_the_template_needs() -> None:
    with serving(guard_server("granite-guardian-3")) as faulty:
        spec = spec_of(faulty, "granite-guardian-3", criteria={"rude": "It is rude."})
        assert spec.server is not None
        ServedGuard(spec, spec.server, "v", "scorers.guard").try_out(lambda: None)
    (body,) = faulty.bodies
    assert body["chat_template_kwargs"]["guardian_config"] == {"custom_criteria": "It is rude."}
    assert (body["temperature"], body["logprobs"], body["top_logprobs"]) == (0.0, True, 20)


def test_a_schema_is_sent_where_the_study_asks_for_it(tmp_path: Path) -> None:
    with serving(guard_server("gpt-oss-safeguard")) as faulty:
        scores = scorer_of(spec_of(faulty, "gpt-oss-safeguard", structured=True), tmp_path)(TEXTS)
    assert [s.value for s in scores] == HARM
    schemas = {body["response_format"]["json_schema"]["name"] for body in faulty.bodies}
    assert schemas == {"verdict"}


def test_without_logprobs_the_verdict_still_counts(tmp_path: Path) -> None:
    with serving(guard_server("qwen3guard", logprobs=False)) as faulty:
        scores = scorer_of(spec_of(faulty, "qwen3guard"), tmp_path)(TEXTS)
    assert [s.value for s in scores] == HARM


@pytest.mark.parametrize("more", [{"measures": "toxicity"}, {"threshold": 0.4}])
@pytest.mark.parametrize("silent", [False, True])
def test_a_study_that_needs_logprobs_says_so_at_once(
    more: dict[str, Any], silent: bool, tmp_path: Path
) -> None:
    """Some servers refuse logprobs, others leave them out."""
    faulty = guard_server("qwen3guard", logprobs=silent)
    if silent:
        faulty.tokens = lambda body: []
    with serving(faulty), pytest.raises(UserError, match="the server gives no logprobs") as raised:
        scorer_of(spec_of(faulty, "qwen3guard", **more), tmp_path)
    assert len(raised.value.problems) == 1
    assert judged(faulty) == 0


def test_a_model_with_another_form_says_so_at_once(tmp_path: Path) -> None:
    with (
        serving(guard_server("shieldgemma")) as faulty,
        pytest.raises(UserError, match="in the form of the preset qwen3guard") as raised,
    ):
        scorer_of(spec_of(faulty, "qwen3guard"), tmp_path)
    assert "scorers.guard.preset" in str(raised.value)


def test_a_server_that_goes_away_keeps_what_was_answered(tmp_path: Path) -> None:
    texts = [Text(str(n), "Why?", f"Answer {n}.", "") for n in range(40)]
    with serving(guard_server("llama-guard-3")) as faulty:
        scorer = scorer_of(spec_of(faulty, "llama-guard-3"), tmp_path)
        faulty.plan = lambda prompt, attempt: "cut" if len(faulty.bodies) > 20 else "answer"
        with pytest.raises(UserError, match="the service stopped answering"):
            scorer(texts)
        stored = scorer.answers.spent("v")[0]
        assert 15 <= stored <= 20
        faulty.plan = lambda prompt, attempt: "answer"
        before = judged(faulty)
        scores = scorer_of(spec_of(faulty, "llama-guard-3"), tmp_path)(texts)
        assert judged(faulty) - before == len(texts) - stored
    assert [s.value for s in scores] == [0.0] * len(texts)


def test_replies_that_are_none_are_counted(tmp_path: Path) -> None:
    """Every third reply is cut, filtered or outside the form; the others count."""
    faulty = guard_server("llama-guard-3")
    ordinary = faulty.says
    plans = {0: "truncated", 1: "filtered", 2: "odd"}

    def case(prompt: str) -> str:
        number = prompt.partition("Answer ")[2].partition(" ")[0]
        return plans.get(int(number), "answer") if number else "answer"

    faulty.plan = lambda prompt, attempt: case(prompt) if case(prompt) != "odd" else "answer"
    faulty.says = lambda body, prompt: "It depends." if case(prompt) == "odd" else ordinary(body, prompt)
    with serving(faulty):
        scores = scorer_of(spec_of(faulty, "llama-guard-3"), tmp_path)(TEXTS)
    assert Counter(s.status for s in scores) == {"scored": 9, "unanswered": 1, "filtered": 1, "unscored": 1}
    assert [s.status for s in scores[:3]] == ["unanswered", "filtered", "unscored"]
    assert all(s.value is None and s.reason for s in scores[:3])


def test_a_server_that_is_not_there_says_so(tmp_path: Path) -> None:
    with serving(guard_server("qwen3guard")) as faulty:
        spec = spec_of(faulty, "qwen3guard")
    with pytest.raises(UserError, match="no use can be made of this service"):
        scorer_of(spec, tmp_path)
