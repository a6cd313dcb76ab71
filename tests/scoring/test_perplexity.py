"""Tests of `unharm.scoring.perplexity`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from support.scorers_helpers import texts
from unharm.scoring.perplexity import Perplexity
from unharm.scoring.settings import (
    PerplexitySpec,
)


def test_perplexity_is_that_of_the_model(tiny_base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    model = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    spec = PerplexitySpec(kind="perplexity", above=2.0)
    some = texts(" the bread is fresh.", " a", " the town " * 400)
    one, other, long = Perplexity(spec, model, tokenizer)(some)
    for text, score in ((some[0], one), (some[1], other)):
        prompt = tokenizer(text.prompt)["input_ids"]
        answer = tokenizer(text.answer, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([prompt + answer])
        labels = ids.clone()
        labels[0, : len(prompt)] = -100
        with torch.inference_mode():
            loss = float(model(ids, labels=labels).loss)
        assert score.value == pytest.approx(math.exp(loss), rel=1e-4)
        assert score.label == "improbable"
    assert long.status == "unscored"
