"""Short replies: shared prefixes change nothing, tokens are counted, unknown attention falls back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unharm.engines.replies import ReplyEngine

HEADER = "You are told what somebody asked and what was answered, and you say what you think about it. " * 3


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> ReplyEngine:
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    return ReplyEngine(model, AutoTokenizer.from_pretrained(tiny_base), batch=5)


def prompts() -> tuple[list[str], list[str]]:
    questions = [
        f"The question number {n} is about bread, and why it is fresh in the morning. " * 2
        for n in range(4)
    ]
    pairs = [(q, f"Answer {k}: {'well ' * k}it is so.") for q in questions for k in range(4)]
    return [HEADER + q + a for q, a in pairs], [q for q, _ in pairs]


def test_replies_are_those_of_the_plain_model(engine: ReplyEngine) -> None:
    texts, groups = prompts()
    assert engine.cached
    replies = dict(engine.replies(texts, groups, 6))
    assert sorted(replies) == list(range(len(texts)))
    for number, text in enumerate(texts):
        ids = engine.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        logits = engine.model(input_ids=ids).logits[0, -1]
        word = engine.tokenizer.decode([int(logits.argmax())])
        first = replies[number].tokens[0] if replies[number].tokens else None
        if first is not None:
            assert max(first.likely.values()) == pytest.approx(float(logits.softmax(-1).max()), abs=1e-4)
            assert first.likely[word] == pytest.approx(float(logits.softmax(-1).max()), abs=1e-4)
            assert math.fsum(first.likely.values()) <= 1 + 1e-6


def test_the_cache_and_generate_agree(engine: ReplyEngine) -> None:
    texts, groups = prompts()
    cached = {n: r.text for n, r in engine.replies(texts, groups, 6)}
    engine.cached = False
    try:
        plain = {n: r.text for n, r in engine.replies(texts, groups, 6)}
    finally:
        engine.cached = True
    assert plain == cached


def test_shared_tokens_are_read_once(engine: ReplyEngine) -> None:
    texts, groups = prompts()
    before = engine.forward_tokens
    replies = dict(engine.replies(texts, groups, 1))
    used = engine.forward_tokens - before
    ids = [tuple(engine.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    distinct = len({row[:n] for row in ids for n in range(1, len(row) + 1)})
    assert len(replies) == len(texts)
    assert used <= 1.2 * distinct


def test_too_long_and_empty_prompts_say_so(engine: ReplyEngine) -> None:
    found = dict(engine.replies(["word " * 5000, ""], ["a", "b"], 4))
    assert (found[0].failure, found[1].failure) == ("prompt too long", "empty prompt")
