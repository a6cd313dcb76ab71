"""Composes the exact text or messages that a subject receives from a benchmark prompt."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from unharm.benchmarks.benchmark import Mode
from unharm.core.arms import WRONG_VALUE
from unharm.core.errors import UserError
from unharm.core.models.completeness import first_line
from unharm.core.records import Prompt, Subject
from unharm.core.templates import slots_of
from unharm.prompting.pack import Pack
from unharm.prompting.settings import Prompting

Messages = tuple[tuple[str, str], ...]
"""The messages of a chat, each with role and content."""


def build_preamble(pack: Pack, subject: Subject, set_aside: list[str]) -> str:
    """Return the text before every prompt of a subject: profile description (arm `icl`) and strategy.

    If no value is set aside, the strategies `value` and `wrong-value` add nothing and `dual` equals
    `safety`. The preamble may be empty.
    """
    strategy = subject.strategy
    if not set_aside:
        without = {"value": "input-only", WRONG_VALUE: "input-only", "dual": "safety"}
        strategy = without.get(strategy, strategy)
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
    if mode == "choose":
        return pack.choice_prompt(text)
    return text


def chat_messages(preamble: str, prompt: str) -> Messages:
    """Return the prompt as a chat; the preamble, if any, is the system message."""
    return (("system", preamble), ("user", prompt)) if preamble else (("user", prompt),)


@dataclass(frozen=True)
class ChatForm:
    """How prompts become chats, in training and evaluation alike.

    Attributes:
        system: The system message; if empty, the template decides (some add one of their own).
        template: Arguments of the chat template, such as `enable_thinking`.
        continuation: How a text to continue is put: `ask` for a continuation in the user's turn, or
            `prefill` the model's turn with the text.
        bare: Whether the template's own system message is left out.
    """

    system: str = ""
    template: Mapping[str, bool | int | str] = field(default_factory=dict)
    continuation: Literal["ask", "prefill"] = "ask"
    bare: bool = False


PLAIN = ChatForm()


def chat_form(pack: Pack, settings: Prompting) -> ChatForm:
    """Return how the prompts of a study become chats."""
    system = pack.text("system") if settings.system == "pack" else ""
    return ChatForm(system, settings.template, settings.continuation, settings.system == "none")


def format_text(
    preamble: str, prompt: str, style: str, tokenizer: Any = None, form: ChatForm = PLAIN
) -> str:
    """Return the text to tokenize.

    Args:
        preamble: The text before the prompt; may be empty.
        prompt: The prompt.
        style: `base` for plain text; otherwise the tokenizer's chat template is used.
        tokenizer: The tokenizer with the template; not needed for `base`.
        form: How a chat is put; not used for `base`.

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
    preamble = _with_system(form, preamble)
    if form.bare and not preamble and default_system(tokenizer, form):
        return _apply_template((("system", ""), ("user", prompt)), tokenizer, form)
    try:
        return _apply_template(chat_messages(preamble, prompt), tokenizer, form)
    except UserError as error:  # a template without a system role says so
        if not preamble or "system" not in str(error).lower():
            raise
        return _apply_template((("user", f"{preamble}\n\n{prompt}"),), tokenizer, form)


def _with_system(form: ChatForm, preamble: str) -> str:
    """Return the system message of a subject: that of the form, then the subject's preamble."""
    return "\n\n".join(part for part in (form.system, preamble) if part)


def system_message(form: ChatForm, tokenizer: Any) -> str:
    """Return the system message that all arms share; those of `icl` and strategies are added to it."""
    return form.system or ("" if form.bare else default_system(tokenizer, form))


def _apply_template(chat: Messages, tokenizer: Any, form: ChatForm, answered: bool = False) -> str:
    """Return a chat as the tokenizer's template writes it. Raise `UserError` if the template cannot."""
    plain = [{"role": role, "content": content} for role, content in chat]
    try:
        return str(
            tokenizer.apply_chat_template(
                plain, tokenize=False, add_generation_prompt=not answered, **form.template
            )
        )
    except Exception as error:  # templates are programs: they raise what they like, or are refused
        raise UserError(
            f"the chat template of the base cannot be used: {first_line(error)}",
            "base",
            "check its chat_template.jinja or tokenizer_config.json, or set prompting.format: base",
        ) from None


MARK = "\u241e"
"""A character that no template has, to find where the system message stands."""


def default_system(tokenizer: Any, form: ChatForm = PLAIN) -> str:
    """Return the system message that a chat template writes of its own accord; empty if it writes none."""
    question = (("user", "question"),)
    try:
        plain = _apply_template(question, tokenizer, form)
        marked = _apply_template((("system", MARK), *question), tokenizer, form)
    except Exception:  # each template without a system role raises its own kind of error
        return ""
    before, found, after = marked.partition(MARK)
    if not found or not plain.startswith(before) or not plain.endswith(after):
        return ""
    return plain[len(before) : len(plain) - len(after)].strip()


def beside_default(preamble: str, form: ChatForm, default: str) -> str:
    """Return a preamble after the template's own system message, where the form keeps that."""
    return f"{default}\n\n{preamble}" if default and not (form.system or form.bare) else preamble


def turn_end(tokenizer: Any, form: ChatForm = PLAIN) -> int:
    """Return the token that ends the model's turn: the one that the template writes after an answer, or
    the tokenizer's end of text if the template writes no special token there."""
    answer = "answer"
    text = _apply_template((("user", "question"), ("assistant", answer)), tokenizer, form, answered=True)
    _, _, tail = text.rpartition(answer)
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    special = [i for i in ids if i in set(tokenizer.all_special_ids)]
    return int(special[0] if special else tokenizer.eos_token_id)


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
        form: How a chat is put, for `chat` and `messages`.
    """

    pack: Pack
    preamble: str
    mode: Mode
    style: str
    tokenizer: Any = None
    form: ChatForm = PLAIN

    def text(self, prompt: str) -> str:
        """Return the text to send or tokenize. For `messages`: all messages, with blank lines between."""
        if self.style == "messages":
            return "\n\n".join(f"{role}: {content}" for role, content in self._chat(prompt))
        worded = self._worded(prompt)
        preamble = self.preamble
        if preamble and self.style == "chat":
            preamble = beside_default(preamble, self.form, self._default_system)
        text = format_text(preamble, worded, self.style, self.tokenizer, self.form)
        return text + prompt if self._prefilled else text

    @cached_property
    def _default_system(self) -> str:
        """The template's own system message. A preamble is added to it, not put in its place, so that all
        subjects have the system message of training."""
        return default_system(self.tokenizer, self.form)

    def messages(self, prompt: str) -> Messages:
        """Return the messages to send; empty for other styles."""
        return self._chat(prompt) if self.style == "messages" else ()

    def _chat(self, prompt: str) -> Messages:
        preamble, worded = _with_system(self.form, self.preamble), self._worded(prompt)
        if self.form.bare and not preamble:
            return (("system", ""), ("user", worded))
        return chat_messages(preamble, worded)

    @property
    def _prefilled(self) -> bool:
        """Whether the model's turn begins with the prompt."""
        return self.mode == "continue" and self.style == "chat" and self.form.continuation == "prefill"

    def _worded(self, prompt: str) -> str:
        """Return the user's turn, or the plain prompt of the style `base`."""
        if self.mode == "continue" and self.style != "base":
            if self._prefilled:
                return self.pack.chat_text("begin")
            return self.pack.chat_text("continue").format(prompt=prompt)
        return apply_mode(self.pack, prompt, self.mode)

    @property
    def prefix(self) -> int:
        """Number of leading characters that all prompts of the subject share."""
        return len(os.path.commonprefix([self.text("A"), self.text("b")]))  # noqa: RUF071

    def options_of(self, prompt: Prompt) -> tuple[str, ...]:
        """Return the texts whose probability as the beginning of the answer is wanted: those of the prompt,
        with a space before them where the text goes on, or else the ratings."""
        if not prompt.options:
            return self.options
        before = " " if self.style == "base" or self._prefilled else ""
        return tuple(before + option for option in prompt.options)

    @property
    def options(self) -> tuple[str, ...]:
        """The beginnings of the answers for ratings 1 to 6; empty unless the mode is `rate`, and where
        another slot stands before the rating."""
        before = self.pack.text("qa", "answer").partition("{rating}")[0]
        if self.mode != "rate" or slots_of(before):
            return ()
        if self.style != "base":  # as in training: after a chat template, answers have no leading space
            before = before.lstrip()
        return tuple(f"{before}{rating}" for rating in range(1, 7))

    @property
    def plain_ratings(self) -> tuple[str, ...]:
        """The ratings 1 to 6 as answers by themselves, as a model gives them that was never taught the form
        of answers of the pack."""
        before = " " if self.style == "base" else ""
        return tuple(f"{before}{rating}" for rating in range(1, 7))
