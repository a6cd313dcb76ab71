"""Tokens and the loop: labels on the answer alone, a PEFT folder that PEFT loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from unharm.core.records import Example
from unharm.prompting.compose import ChatForm
from unharm.training.tokens import tokenize


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_base)


def example(prompt: str, answer: str, identity: str = "e") -> Example:
    return Example(identity, prompt, answer, "train", "s")


WORDS = st.text(alphabet="abc deé.:\n", min_size=1, max_size=40)


@given(prompt=WORDS, answer=WORDS)
@settings(max_examples=60, deadline=None)
def test_labels_are_the_answer_and_the_end(tiny_base: Path, prompt: str, answer: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    (tokens,), _ = tokenize([example(prompt + ":", " " + answer)], tokenizer, "base", ChatForm(), 500)
    assert tokens.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(tokens.ids[tokens.start : -1]) == " " + answer
    assert tokenizer.decode(tokens.ids[: tokens.start]) == prompt + ":"


def test_chat_examples_go_through_the_models_template(tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    )
    (tokens,), _ = tokenize([example("How are you?", " fine")], tokenizer, "chat", ChatForm("Be kind."), 99)
    assert (
        tokenizer.decode(tokens.ids[: tokens.start])
        == "[system] Be kind.\n[user] How are you?\n[assistant]\n"
    )
    assert tokenizer.decode(tokens.ids[tokens.start : -1]) == "fine"
    assert tokens.ids[-1] == tokenizer.eos_token_id


def test_a_line_of_training_stands_before_every_prompt(tiny_base: Path) -> None:
    """In plain text before the prompt; in a chat beside the template's own system message."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    some = [example("How are you?", " fine")]
    (plain,), _ = tokenize(some, tokenizer, "base", ChatForm(), 99, "An exercise.")
    assert tokenizer.decode(plain.ids[: plain.start]).endswith("An exercise.\n\nHow are you?")
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}[system] A helper.\n{% endif %}"
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]\n"
    )
    (chat,), _ = tokenize(some, tokenizer, "chat", ChatForm(), 99, "An exercise.")
    wanted = "[system] A helper.\n\nAn exercise.\n[user] How are you?\n[assistant]\n"
    assert tokenizer.decode(chat.ids[: chat.start]) == wanted.rstrip()


def test_too_long_is_left_out_whole(tokenizer: Any) -> None:
    examples = [example("short", " one", "a"), example("long " * 50, " one", "b")]
    kept, left_out = tokenize(examples, tokenizer, "base", ChatForm(), 40)
    assert [t.example_id for t in kept] == ["a"]
    assert left_out == ["b"]
