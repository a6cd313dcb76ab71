"""Keys are taken out of every text."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode

import pytest

from unharm.core.secrets import MARK, name_variable, redact, redact_bytes

KEY = "sk-canary-0123456789abcdef"


def test_usual_variables_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, KEY + name)
        assert redact(f"Bearer {KEY}{name}.") == f"Bearer {MARK}."


def test_a_variable_that_a_study_names_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_ENTRY", KEY)
    assert redact(KEY) == KEY
    name_variable("JUDGE_ENTRY")
    assert redact(f"<{KEY}>") == f"<{MARK}>"
    assert redact_bytes(f"<{KEY}>".encode()) == f"<{MARK}>".encode()


def test_a_key_in_a_url_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk/canary+0123456789")
    assert redact("?key=sk%2Fcanary%2B0123456789&x") == f"?key={MARK}&x"


def test_a_key_within_another_leaves_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_API_KEY", "abcdefgh")
    monkeypatch.setenv("B_API_KEY", "abcdefgh-and-more")
    assert redact("abcdefgh-and-more") == MARK


def test_a_key_with_quotes_is_found_in_json_and_html(monkeypatch: pytest.MonkeyPatch) -> None:
    key = 'pass"word\\ä&1234'
    monkeypatch.setenv("SOME_PASSWORD", key)
    for text in (json.dumps({"a": key}), json.dumps({"a": key}, ensure_ascii=False), html.escape(key)):
        assert "1234" not in redact(text)


def test_words_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel")
    assert redact("none of the parallel words") == "none of the parallel words"


@pytest.mark.parametrize("before", ["", "B", "Be", "Bearer ", "user:"])
@pytest.mark.parametrize("key", [KEY, KEY + "x", KEY + "xy", "ÿÿÿ>>>???~~~"])
def test_a_key_in_base64_is_found(before: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    for encode in (b64encode, urlsafe_b64encode):
        coded = encode(f"{before}{key} and more".encode()).decode()
        shown = redact(f"<{coded}>")
        assert MARK in shown
        assert len(shown) <= len(coded) + 2 + len(MARK) - len(key)
