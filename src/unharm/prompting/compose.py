"""Composes the exact text or messages that a subject receives from a benchmark prompt."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from typing import Any

from unharm.benchmarks.benchmark import Mode
from unharm.core.errors import UserError
from unharm.core.records import Subject
from unharm.prompting.pack import Pack

Messages = tuple[tuple[str, str], ...]
"""The messages of a chat, each with role and content."""


def build_preamble(pack: Pack, subject: Subject, set_aside: list[str]) -> str:
    """Return the text before every prompt of a subject: profile description (arm `icl`) and strategy.

    If no value is set aside, the strategy `value` adds nothing and `dual` equals `safety`. The preamble may
    be empty.
    """
    strategy = subject.strategy
    if not set_aside:
        strategy = {"value": "input-only", "dual": "safety"}.get(strategy, strategy)
    parts = []
    if subject.arm == "icl" and subject.profile:
        parts.append(pack.describe_profile(subject.profile))
    parts.append(pack.strategy_text(strategy, set_aside))
    return "\n\n".join(part for part in parts if part)


def apply_mode(pack: Pack, text: str, mode: Mode) -> str:
    """Word a benchmark's prompt for its mode: unchanged to continue, else as a question or rating task."""
    if mode == "ask":
        return pack.fill("ask", prompt=text)
    if mode == "rate":
        return pack.rating_prompt(text)
    return text


def chat_messages(preamble: str, prompt: str) -> Messages:
    """Return the prompt as a chat; the preamble, if any, is the system message."""
    return (("system", preamble), ("user", prompt)) if preamble else (("user", prompt),)


def format_text(preamble: str, prompt: str, style: str, tokenizer: Any = None) -> str:
    """Return the text to tokenize.

    Args:
        preamble: The text before the prompt; may be empty.
        prompt: The prompt.
        style: `base` for plain text; otherwise the tokenizer's chat template is used.
        tokenizer: The tokenizer with the template; not needed for `base`.

    Raises:
        UserError: The tokenizer has no chat template.
    """
    if style == "base":
        return f"{preamble}\n\n{prompt}" if preamble else prompt
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "this base has no chat template",
            "prompting.format",
            "use format: base, or a base whose tokenizer has a chat template",
        )
    try:
        return _apply_template(chat_messages(preamble, prompt), tokenizer)
    except Exception as error:  # each template without a system role raises its own kind of error
        if not preamble or "system" not in str(error).lower():
            raise
        return _apply_template((("user", f"{preamble}\n\n{prompt}"),), tokenizer)


def _apply_template(chat: Messages, tokenizer: Any) -> str:
    plain = [{"role": role, "content": content} for role, content in chat]
    return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True))


@dataclass(frozen=True)
class Composer:
    """Composes the prompts of one benchmark for one subject.

    Attributes:
        pack: The wordings.
        preamble: The text before every prompt.
        mode: What the model does with a prompt.
        style: `base` (plain text), `chat` (the template of `tokenizer`) or `messages` (the server applies
            its template).
        tokenizer: The tokenizer for `chat`.
    """

    pack: Pack
    preamble: str
    mode: Mode
    style: str
    tokenizer: Any = None

    def text(self, prompt: str) -> str:
        """Return the text to send or tokenize. For `messages`: all messages, with blank lines between."""
        prompt = apply_mode(self.pack, prompt, self.mode)
        if self.style == "messages":
            return "\n\n".join(
                f"{role}: {content}" for role, content in chat_messages(self.preamble, prompt)
            )
        return format_text(self.preamble, prompt, self.style, self.tokenizer)

    def messages(self, prompt: str) -> Messages:
        """Return the messages to send; empty for other styles."""
        if self.style != "messages":
            return ()
        return chat_messages(self.preamble, apply_mode(self.pack, prompt, self.mode))

    @property
    def prefix(self) -> int:
        """Number of leading characters that all prompts of the subject share."""
        return len(os.path.commonprefix([self.text("A"), self.text("b")]))  # noqa: RUF071

    @property
    def options(self) -> tuple[str, ...]:
        """The beginnings of the answers for ratings 1 to 6; empty unless the mode is `rate`."""
        if self.mode != "rate":
            return ()
        before = self.pack.text("qa", "answer").partition("{rating}")[0]
        return tuple(f"{before}{rating}" for rating in range(1, 7))
