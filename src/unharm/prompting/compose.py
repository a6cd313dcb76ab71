"""From a benchmark prompt to the exact text, or messages, that a subject receives."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unharm.benchmarks.benchmark import Mode
from unharm.core.errors import UserError
from unharm.core.records import Subject
from unharm.prompting.pack import Pack

if TYPE_CHECKING:
    pass

Messages = tuple[tuple[str, str], ...]
"""Role and content of each message of a chat."""


def preamble_of(pack: Pack, subject: Subject, set_aside: list[str]) -> str:
    """What stands before every prompt of a subject: the described profile (in-context arm) and the
    strategy's text; may be empty. Where no value is set aside, `value` says nothing and `dual` what
    `safety` says."""
    strategy = subject.strategy
    if not set_aside:
        strategy = {"value": "input-only", "dual": "safety"}.get(strategy, strategy)
    parts = []
    if subject.arm == "icl" and subject.profile:
        parts.append(pack.describe(subject.profile))
    parts.append(pack.strategy(strategy, set_aside))
    return "\n\n".join(part for part in parts if part)


def put(pack: Pack, text: str, mode: Mode) -> str:
    """A benchmark's prompt as it is put to a model: continued as it is, asked, or rated."""
    if mode == "ask":
        return pack.fill("ask", prompt=text)
    if mode == "rate":
        return pack.rate(text)
    return text


def messages(preamble: str, prompt: str) -> Messages:
    """The chat that a prompt is: what stands before it is the system's message."""
    return (("system", preamble), ("user", prompt)) if preamble else (("user", prompt),)


def as_text(preamble: str, prompt: str, style: str, tokenizer: Any = None) -> str:
    """The one string that is tokenized: plain for base models, the model's own template for chat.

    Raises `UserError` where the chat format is asked of a tokenizer without a chat template.
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
        return _templated(messages(preamble, prompt), tokenizer)
    except Exception as error:  # templates without a system role raise their own errors
        if not preamble or "system" not in str(error).lower():
            raise
        return _templated((("user", f"{preamble}\n\n{prompt}"),), tokenizer)


def _templated(chat: Messages, tokenizer: Any) -> str:
    plain = [{"role": role, "content": content} for role, content in chat]
    return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True))


@dataclass(frozen=True)
class Composer:
    """Puts the prompts of one benchmark to one subject: `style` is `base`, `chat` (the model's own
    template, by `tokenizer`) or `messages` (left to a server)."""

    pack: Pack
    preamble: str
    mode: Mode
    style: str
    tokenizer: Any = None

    def text(self, prompt: str) -> str:
        """The string that is sent, or tokenized; of messages, one below the other."""
        whole = put(self.pack, prompt, self.mode)
        if self.style == "messages":
            return "\n\n".join(f"{role}: {content}" for role, content in messages(self.preamble, whole))
        return as_text(self.preamble, whole, self.style, self.tokenizer)

    def messages(self, prompt: str) -> Messages:
        """The messages that are sent; none for the other styles."""
        if self.style != "messages":
            return ()
        return messages(self.preamble, put(self.pack, prompt, self.mode))

    @property
    def prefix(self) -> int:
        """How many first characters every prompt has in common."""
        return len(os.path.commonprefix([self.text("A"), self.text("b")]))  # noqa: RUF071

    @property
    def options(self) -> tuple[str, ...]:
        """How an answer begins that gives each rating from 1 to 6; none unless a rating is asked for."""
        if self.mode != "rate":
            return ()
        before = self.pack.text("qa", "answer").partition("{rating}")[0]
        return tuple(f"{before}{rating}" for rating in range(1, 7))
