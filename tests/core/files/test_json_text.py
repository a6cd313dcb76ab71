"""JSON of others."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.files.json_text import NotJson, parse_json


@pytest.mark.parametrize(
    ("text", "what"),
    [("{", "not JSON"), ("[" * 200_000, "nested"), ("9" * 5000, "digits"), ("", "not JSON")],
)
def test_what_is_wrong_in_words(text: str, what: str) -> None:
    with pytest.raises(NotJson, match=what):
        parse_json(text)


def test_the_line_is_told() -> None:
    with pytest.raises(NotJson) as caught:
        parse_json('{"a": 1,\n\n}')
    assert caught.value.line == 3


@given(st.text())
def test_any_text_is_data_or_a_message(text: str) -> None:
    with contextlib.suppress(NotJson):
        assert parse_json(json.dumps(parse_json(text))) is not ...
