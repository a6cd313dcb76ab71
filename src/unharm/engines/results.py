"""Decide when a sample has ended, and turn it into a completion."""

from __future__ import annotations

from typing import Any

from unharm.core.records import Completion
from unharm.engines.prompt_groups import Sample


def finish_reason(sample: Sample, end_ids: frozenset[int], tokenizer: Any) -> str:
    """Return why a sample has ended: `end`, `stop` or `length`; empty if it goes on."""
    sampling = sample.prompt.task.sampling
    if sample.tokens[-1] in end_ids:
        return "end"
    if sampling.stop:
        # a stop text rarely has more tokens than characters, so decoding a few more suffices
        tail = sample.tokens[-max(map(len, sampling.stop)) - 4 :]
        text = tokenizer.decode(tail, skip_special_tokens=True)
        if any(stop in text for stop in sampling.stop):
            return "stop"
    return "length" if len(sample.tokens) >= sampling.max_tokens else ""


def completion_of(sample: Sample, ended: str, tokenizer: Any) -> Completion:
    """Return the completion of a finished sample, cut before the first stop text.

    Args:
        sample: The sample.
        ended: Why it ended, as `finish_reason` says.
        tokenizer: Decodes its tokens.
    """
    prompt, request = sample.prompt, sample.request
    tokens = sample.tokens[:-1] if ended == "end" else sample.tokens
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    cuts = [text.index(s) for s in prompt.task.sampling.stop if s in text]
    if cuts:
        text, ended = text[: min(cuts)], "stop"
    return Completion(
        request.completion_id, request.prompt_id, request.sample, text, ended, len(prompt.ids),
        len(tokens), options=prompt.options,
    )  # fmt: skip
