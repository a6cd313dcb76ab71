"""What a thinking model writes before its answer, kept apart from the answer."""

from __future__ import annotations

from dataclasses import replace

from unharm.core.records import Completion
from unharm.engines.requests import NO_ANSWER, STILL_THINKING

OPENING, CLOSING = "<think>", "</think>"
"""The marks of thoughts, as Qwen3, DeepSeek-R1, SmolLM3 and others write them."""


def without_thought(completion: Completion, prompt: str = "") -> Completion:
    """Return a completion whose `text` is the answer alone and whose `thought` is what came before.

    A completion that was cut while the model was still thinking has no answer: it is `failed`. So is one
    that reached its limit with nothing but white space: a server may keep the thought to itself.

    Args:
        completion: The completion as the model wrote it.
        prompt: The text before it; some templates open the thought there.
    """
    text = completion.text
    opened = text.lstrip().startswith(OPENING) or prompt.rstrip().endswith(OPENING)
    if completion.status != "completed":
        return completion
    if not (opened or CLOSING in text):
        if completion.finish == "length" and not text.strip():
            return replace(completion, text="", status="failed", reason=NO_ANSWER)
        return completion
    thought, closed, answer = text.partition(CLOSING)
    thought = thought.lstrip().removeprefix(OPENING).strip()
    answer = answer.lstrip("\n")
    if not answer.strip() and completion.finish == "length":
        return replace(completion, text="", thought=thought, status="failed", reason=STILL_THINKING)
    return replace(completion, text=answer if closed else "", thought=thought)
