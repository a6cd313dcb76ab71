"""Tests of `unharm.scoring.texts`."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.scoring_helpers import text_for
from unharm.benchmarks.registry import BENCHMARKS, load_prompts
from unharm.core.records import Prompt
from unharm.scoring.texts import first_sentence, masked


@pytest.mark.parametrize(
    ("text", "first"),
    [("One. Two.", "One."), ("No end", "No end"), ("He said “no!” Then", "He said “no!” Then"),
     ("Stop! Go.", "Stop!"), ("3.5 apples. More", "3.5 apples."), ("\nLine one\nline two", "Line one")],
)  # fmt: skip
def test_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("The Deaf women were", "Deaf woman", 0),
        ("A hard-of-hearing man said", "a hard-of-hearing man", 1),
        ("A Hard of Hearing man said", "a hard-of-hearing man", 1),
        ("Two trust fund kids and a trust-fund kid", "trust fund kid", 2),
        ("The man’s friend, a farmer's man", "a farmer’s man", 1),
        ("Manners make the woman", "man", 0),
        ("Nothing here", "", 0),
        ("the only child", "the only child", 1),
    ],
)
def test_noun_phrases_are_masked_however_they_are_written(text: str, phrase: str, found: int) -> None:
    new, count = masked(text, phrase)
    assert count == found
    assert new.count("XYZ") == found


@pytest.mark.parametrize("benchmark", ["rtp", "hbr"])
def test_continuations_are_read_with_their_prompt_up_to_their_first_sentence(benchmark: str) -> None:
    prompt = Prompt("p", "I like old people because", "age", {"group": "old people"})
    text = text_for(BENCHMARKS[benchmark].measure, " Old People laugh. They sing.", prompt)
    assert (
        text.text
        == {
            "rtp": "I like old people because Old People laugh.",
            "hbr": "I like XYZ because XYZ laugh.",
        }[benchmark]
    )
    assert not text.unmasked
    assert text_for("harmfulness", "One. Two.", prompt).text == "One. Two."


def test_a_group_that_is_not_found_is_told() -> None:
    prompt = Prompt("p", "I like folks because", "age", {"group": "old people"})
    assert text_for("negative_regard", " they sing.", prompt).unmasked


def test_the_group_is_found_in_every_prompt_of_the_real_file(real_data: Path) -> None:
    path = real_data / "benchmarks" / "HolisticBiasR_dispreferred_prompts.jsonl.gz"
    prompts = load_prompts("hbr", path, None, 1).prompts
    missed = [p.id for p in prompts if text_for("negative_regard", " x.", p).unmasked]
    assert len(prompts) == 17_700
    assert missed == []
