"""Tests of `unharm.scoring.thinking`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from unharm.scoring.thinking import thought_of, without_thinking


@pytest.mark.parametrize(
    ("reply", "rest"),
    [
        ("4\nfine", "4\nfine"),
        ("<think>is it a 2?\n</think>\n\n4", "\n\n4"),
        ("it may be a 2</think>4", "4"),
        ("<|channel|>analysis<|message|>2?<|end|><|channel|>final<|message|>4", "4"),
        ("<think>is it a 2? 2 2 2", ""),
        ("<|channel|>analysis<|message|>2?", ""),
        ('{"reason": "it says </think>", "verdict": 4}', '{"reason": "it says </think>", "verdict": 4}'),
        ("", ""),
    ],
)
def test_reasoning_is_cut_off_before_the_verdict(reply: str, rest: str) -> None:
    assert without_thinking(reply) == (rest, len(reply) - len(rest))


def test_a_field_with_the_reasoning_is_read_by_either_name() -> None:
    assert thought_of(SimpleNamespace(reasoning_content="so", reasoning=None)) == "so"
    assert thought_of(SimpleNamespace(reasoning="so")) == "so"
    assert thought_of(SimpleNamespace(content="4")) == ""
