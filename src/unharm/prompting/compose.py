"""From a benchmark prompt to the exact text that a subject receives."""

from __future__ import annotations

from typing import Any

from unharm.benchmarks.load import Mode
from unharm.errors import UserError
from unharm.prompting.pack import Pack
from unharm.records import Subject


def preamble_of(pack: Pack, subject: Subject, set_aside: list[str]) -> str:
    """What stands before every prompt of a subject: the described profile (in-context arm) and the
    strategy's text; may be empty."""
    parts = []
    if subject.arm == "icl" and subject.profile:
        parts.append(pack.describe(subject.profile))
    parts.append(pack.strategy(subject.strategy, set_aside))
    return "\n\n".join(part for part in parts if part)


def put(pack: Pack, text: str, mode: Mode) -> str:
    """A benchmark's prompt as it is put to a model: continued as it is, asked, or rated."""
    if mode == "ask":
        return pack.fill("ask", prompt=text)
    if mode == "rate":
        return pack.rate(text)
    return text


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
    user = {"role": "user", "content": prompt}
    messages = [{"role": "system", "content": preamble}, user] if preamble else [user]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates without a system role raise their own errors
        if not preamble:
            raise
        if "system" not in str(error).lower():
            raise
        folded = [{"role": "user", "content": f"{preamble}\n\n{prompt}"}]
        return str(tokenizer.apply_chat_template(folded, tokenize=False, add_generation_prompt=True))
