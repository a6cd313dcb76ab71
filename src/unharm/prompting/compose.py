"""From a benchmark prompt to the exact text that a subject receives."""

from __future__ import annotations

from typing import Any

from unharm.benchmarks.load import Mode
from unharm.errors import UserError
from unharm.prompting.pack import Pack
from unharm.records import Subject


def compose(pack: Pack, subject: Subject, text: str, mode: Mode, set_aside: list[str]) -> tuple[str, str]:
    """The preamble (profile description and strategy; may be empty) and the prompt proper."""
    parts = []
    if subject.arm == "icl" and subject.profile:
        parts.append(pack.describe(subject.profile))
    parts.append(pack.strategy(subject.strategy, set_aside))
    preamble = "\n\n".join(part for part in parts if part)
    if mode == "ask":
        text = pack.fill("ask", prompt=text)
    elif mode == "rate":
        text = pack.rate(text)
    return preamble, text


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
