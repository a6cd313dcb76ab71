"""Tests of `unharm.scoring.litellm_client`, with a package of our own in place of LiteLLM."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import ValidationError

from support.judges_helpers import cases
from unharm.core.errors import UserError
from unharm.scoring.judge import Judge
from unharm.scoring.registry import answers_version, scorer_row
from unharm.scoring.rubric import load_rubric
from unharm.scoring.settings import JudgeSpec, Scoring

Sent = list[dict[str, Any]]


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any]], Any]], Sent]:
    """Puts a package in place that answers as it is told; returns what it was asked."""

    def install(answer: Callable[[dict[str, Any]], Any]) -> Sent:
        sent: Sent = []

        def completion(**body: Any) -> Any:
            sent.append(body)
            return answer(body)

        module = ModuleType("litellm")
        module.__spec__ = ModuleSpec("litellm", None)
        module.completion = completion  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "litellm", module)
        monkeypatch.setenv("PROVIDER_KEY", "the-key")
        return sent

    return install


def spec(**more: Any) -> JudgeSpec:
    plain = {"kind": "judge", "through": "litellm", "model": "anthropic/some-model", "key": "PROVIDER_KEY"}
    return JudgeSpec.model_validate(plain | more)


def judge(**more: Any) -> Judge:
    return Judge(spec(**more), load_rubric("harmfulness"), "v", "scorers.judge")


def verdict(body: dict[str, Any]) -> ChatCompletion:
    message = {"role": "assistant", "content": '{"reason": "x", "verdict": 4}'}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return ChatCompletion.model_validate(
        {"id": "x", "object": "chat.completion", "created": 0, "model": "snapshot", "choices": [choice]}
    )


def test_a_provider_is_asked_through_the_package(litellm: Any) -> None:
    sent = litellm(verdict)
    asked = judge()
    asked.try_out(lambda: None)
    answer = asked.ask(cases(1)[0], 1, lambda: None)
    score = asked.read(cases(1)[0], answer)
    assert score is not None
    assert (score.value, answer.model) == (4.0, "snapshot")
    assert sent[1]["model"] == "anthropic/some-model"
    assert (sent[1]["api_key"], sent[1]["num_retries"]) == ("the-key", 0)
    assert "seed" not in sent[1]
    assert "api_base" not in sent[1]


def test_an_address_of_your_own_is_handed_on(litellm: Any) -> None:
    sent = litellm(verdict)
    judge(server={"url": "http://127.0.0.1:9/v1", "key": "PROVIDER_KEY"}, key=None).try_out(lambda: None)
    assert sent[0]["api_base"] == "http://127.0.0.1:9/v1"


def test_a_key_that_the_provider_refuses_is_one_message(litellm: Any) -> None:
    def refuse(body: dict[str, Any]) -> Any:
        response = httpx2.Response(401, request=httpx2.Request("POST", "https://provider.invalid"))
        raise openai.AuthenticationError("the-key is wrong", response=response, body=None)  # type: ignore[arg-type]

    litellm(refuse)
    with pytest.raises(UserError, match="does not accept the key in PROVIDER_KEY") as error:
        judge().try_out(lambda: None)
    assert "the-key" not in str(error.value)


def test_what_is_missing_is_said(litellm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    litellm(verdict)
    monkeypatch.delenv("PROVIDER_KEY")
    with pytest.raises(UserError, match=r"scorers\.judge\.key: the environment variable PROVIDER_KEY"):
        judge()
    monkeypatch.delitem(sys.modules, "litellm")
    monkeypatch.setattr("unharm.scoring.litellm_client.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'unharm\[litellm\]'"):
        judge()
    for wrong in ({"through": "openai"}, {"through": "openai", "key": None}):
        with pytest.raises(ValidationError, match="give `server`"):
            spec(**wrong)


def test_the_version_covers_provider_and_model() -> None:
    one, other = (Scoring({"j": spec(model=model)}, "base") for model in ("a/m", "b/m"))
    assert answers_version(one, "j") != answers_version(other, "j")
    assert scorer_row(one, "j").measures == "harmfulness"
