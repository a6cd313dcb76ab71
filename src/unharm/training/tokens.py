"""From examples to token ids with labels on the answer alone."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass, field, replace
from typing import Any

from unharm.core.records import Example
from unharm.prompting.compose import format_text


@dataclass(frozen=True)
class Tokens:
    """One example: `ids` of prompt, answer and end of text; labels begin at `start`. `source` is
    what it was made from (an argument, a row)."""

    example_id: str
    ids: array[int]
    start: int
    source: str = ""


@dataclass
class Tokenizer:
    """Tokenizes examples for training and remembers them: profiles share most of theirs.

    `style` is `base` or `chat`, where `system` is the system prompt.
    """

    tokenizer: Any
    style: str
    system: str
    max_length: int
    _known: dict[tuple[str, str], Tokens] = field(default_factory=dict)

    def __call__(self, examples: list[Example]) -> tuple[list[Tokens], list[str]]:
        """As `tokenize`."""
        unknown = {(e.prompt, e.answer): e for e in examples if (e.prompt, e.answer) not in self._known}
        limit = sys.maxsize
        made, _ = tokenize(list(unknown.values()), self.tokenizer, self.style, self.system, limit)
        self._known |= zip(unknown, made, strict=True)
        kept, too_long = [], []
        for example in examples:
            tokens = self._known[example.prompt, example.answer]
            if len(tokens.ids) > self.max_length:
                too_long.append(example.id)
            else:
                kept.append(replace(tokens, example_id=example.id, source=example.source))
        return kept, too_long


def tokenize(
    examples: list[Example], tokenizer: Any, style: str, system: str, max_length: int
) -> tuple[list[Tokens], list[str]]:
    """Token ids of every example that fits, and the ids of those that do not.

    Nothing is cut: an example of more than `max_length` tokens is left out whole. The answer
    begins at the first token that reaches beyond the prompt's characters.
    """
    kept: list[Tokens] = []
    too_long: list[str] = []
    if not examples:
        return kept, too_long
    prompts = [format_text(system if style == "chat" else "", e.prompt, style, tokenizer) for e in examples]
    answers = [e.answer.lstrip() if style == "chat" else e.answer for e in examples]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    encoded = tokenizer(texts, add_special_tokens=style == "base", return_offsets_mapping=True)
    for example, prompt, ids, offsets in zip(
        examples, prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        start = max(1, next(i for i, (_, end) in enumerate(offsets) if end > len(prompt)))
        if ids[-1] != tokenizer.eos_token_id:
            ids = [*ids, tokenizer.eos_token_id]
        if len(ids) > max_length:
            too_long.append(example.id)
        else:
            kept.append(Tokens(example.id, array("i", ids), start, example.source))
    return kept, too_long
