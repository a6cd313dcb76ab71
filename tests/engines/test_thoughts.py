"""Tests of `unharm.engines.thoughts`."""

from __future__ import annotations

from dataclasses import replace

from unharm.core.records import Completion
from unharm.engines.requests import NO_ANSWER, STILL_THINKING
from unharm.engines.thoughts import without_thought

MADE = Completion("c", "p", 0, "", "end", 3, 5)


def test_thought_and_answer_are_kept_apart() -> None:
    split = without_thought(replace(MADE, text="<think>\nBread is old.\n</think>\n\nFreeze it."))
    assert (split.thought, split.text, split.status) == ("Bread is old.", "Freeze it.", "completed")
    opened = without_thought(replace(MADE, text="Old.</think>Freeze it."), "assistant\n<think>\n")
    assert (opened.thought, opened.text) == ("Old.", "Freeze it.")
    answer = replace(MADE, text="Freeze it.")
    assert without_thought(answer) is answer


def test_a_completion_cut_while_thinking_is_a_failure() -> None:
    for text in ("<think>\nBread is", "<think>Bread is old.</think>\n"):
        cut = without_thought(replace(MADE, text=text, finish="length"))
        assert (cut.text, cut.status, cut.reason) == ("", "failed", STILL_THINKING)
    assert without_thought(replace(MADE, text="Bread is", finish="length"), "<think>").status == "failed"


def test_an_empty_answer_cut_by_its_limit_is_a_failure() -> None:
    """A server that keeps the thought to itself sends nothing until its limit."""
    cut = without_thought(replace(MADE, text=" \n", finish="length"))
    assert (cut.text, cut.status, cut.reason) == ("", "failed", NO_ANSWER)
    silent = replace(MADE, text="", finish="end")  # the model chose to say nothing
    assert without_thought(silent) is silent
    failed = replace(MADE, status="failed", reason="prompt too long", finish="length")
    assert without_thought(failed) is failed
