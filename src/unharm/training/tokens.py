"""Tokenize training examples. Only the answer has labels."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from unharm.core.records import Example
from unharm.prompting.compose import ChatForm, beside_default, default_system, format_text, turn_end


@dataclass(frozen=True)
class Tokens:
    """One tokenized example.

    Attributes:
        example_id: The example's id.
        ids: Token ids of prompt, answer and end of text.
        start: Number of the first label, which is the first token of the answer.
        source: What the example was made from, such as an argument.
    """

    example_id: str
    ids: array[int]
    start: int
    source: str = ""


@dataclass
class Tokenizer:
    """Tokenizes examples and caches the result, because profiles share most examples.

    Attributes:
        tokenizer: A tokenizer of transformers.
        style: `base` or `chat`.
        form: How a chat is put.
        max_length: Most tokens of one example.
        preamble: A text before every prompt; may be empty.
    """

    tokenizer: Any
    style: str
    form: ChatForm
    max_length: int
    preamble: str = ""
    _known: dict[tuple[str, str], Tokens] = field(default_factory=dict)

    def __call__(self, examples: list[Example]) -> tuple[list[Tokens], list[str]]:
        """Tokenize examples. Returns those that fit, and the ids of those that are too long."""
        unknown = {(e.prompt, e.answer): e for e in examples if (e.prompt, e.answer) not in self._known}
        limit = sys.maxsize
        tokenized, _ = tokenize(
            list(unknown.values()), self.tokenizer, self.style, self.form, limit, self.preamble
        )
        self._known |= zip(unknown, tokenized, strict=True)
        fitting, too_long = [], []
        for example in examples:
            tokens = self._known[example.prompt, example.answer]
            if len(tokens.ids) > self.max_length:
                too_long.append(example.id)
            else:
                fitting.append(replace(tokens, example_id=example.id, source=example.source))
        return fitting, too_long


def whole_pairs(texts: list[Tokens]) -> list[Tokens]:
    """Return the texts whose pair is whole: those whose id occurs twice."""
    counts = Counter(t.example_id for t in texts)
    return [t for t in texts if counts[t.example_id] == 2]


def tokenize(
    examples: list[Example],
    tokenizer: Any,
    style: str,
    form: ChatForm,
    max_length: int,
    preamble: str = "",
) -> tuple[list[Tokens], list[str]]:
    """Tokenize examples.

    An example of more than `max_length` tokens is left out, never cut. The answer begins at the first token
    that reaches beyond the characters of the prompt. A chat ends with the template's own end of a turn.

    Returns:
        The examples that fit, and the ids of those that are too long.
    """
    fitting: list[Tokens] = []
    too_long: list[str] = []
    if not examples:
        return fitting, too_long
    if preamble and style == "chat":
        preamble = beside_default(preamble, form, default_system(tokenizer, form))
    prompts = [format_text(preamble, e.prompt, style, tokenizer, form) for e in examples]
    end_id = turn_end(tokenizer, form) if style == "chat" else tokenizer.eos_token_id
    answers = [e.answer.lstrip() if style == "chat" else e.answer for e in examples]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    encoded = tokenizer(texts, add_special_tokens=style == "base", return_offsets_mapping=True)
    for example, prompt, ids, offsets in zip(
        examples, prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        start = max(1, next(i for i, (_, end) in enumerate(offsets) if end > len(prompt)))
        if ids[-1] != end_id:
            ids = [*ids, end_id]
        if len(ids) > max_length:
            too_long.append(example.id)
        else:
            fitting.append(Tokens(example.id, array("i", ids), start, example.source))
    return fitting, too_long
