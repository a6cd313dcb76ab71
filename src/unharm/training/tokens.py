"""From examples to token ids with labels on the answer alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unharm.prompting.compose import as_text
from unharm.records import Example


@dataclass(frozen=True)
class Tokens:
    """One example: `ids` of prompt, answer and end of text; labels begin at `start`."""

    example_id: str
    ids: list[int]
    start: int


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
    prompts = [as_text(system if style == "chat" else "", e.prompt, style, tokenizer) for e in examples]
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
            kept.append(Tokens(example.id, ids, start))
    return kept, too_long
