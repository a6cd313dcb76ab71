"""The texts that value vectors are made of: stage 1's statements, or in-context descriptions.

For a value, the statements of the training split that carry it are what a person with this value would say,
and all others what they would not. All are put as answers to the same wording, so that only what is said
differs. In-context contrasts put a person to whom the value is all or nothing before the same statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unharm.core.draws import rank
from unharm.core.records import Argument, Profile
from unharm.core.values import HIGHEST, LOWEST, VALUES
from unharm.prompting.compose import ChatForm, format_text
from unharm.prompting.pack import Pack
from unharm.training.steering.activations import Span

IN_CONTEXT = 12
"""Statements that follow each in-context description."""
MIDDLE = (LOWEST + HIGHEST) / 2


@dataclass(frozen=True)
class Wording:
    """How texts are put to the base: its pack, tokenizer, style and form of chat."""

    pack: Pack
    tokenizer: Any
    style: str
    form: ChatForm

    def said(self, argument: Argument, preamble: str = "") -> Span:
        """Return a statement as the answer to stage 1's prompt; the mean is over the answer."""
        prompt, answer = self.pack.ag(argument, would=True)
        return self.answered(prompt, answer, preamble)

    def answered(self, prompt: str, answer: str, preamble: str = "") -> Span:
        """Return a prompt with its answer; the mean is over the answer, or all tokens if it is empty."""
        before = format_text(preamble, prompt, self.style, self.tokenizer, self.form)
        answer = answer.lstrip() if self.style == "chat" else answer
        encoded = self.tokenizer(
            before + answer, add_special_tokens=self.style == "base", return_offsets_mapping=True
        )
        offsets = encoded["offset_mapping"]
        start = next((i for i, (_, end) in enumerate(offsets) if end > len(before)), 0)
        return Span(encoded["input_ids"], start)


def drawn(arguments: Sequence[Argument], most: int, seed: int) -> list[Argument]:
    """Return at most `most` arguments, drawn by seed, in their order."""
    chosen = set(sorted((a.id for a in arguments), key=lambda i: rank(seed, f"steering {i}"))[:most])
    return [a for a in arguments if a.id in chosen]


def in_context_pair(pack: Pack, value: str) -> tuple[str, str]:
    """Return the descriptions of two people who differ in one value: all to the first, nothing to the
    second."""
    descriptions = []
    for importance in (HIGHEST, LOWEST):
        importances = tuple(importance if v == value else MIDDLE for v in VALUES)
        descriptions.append(pack.describe_profile(Profile(value, importances)))
    return descriptions[0], descriptions[1]
