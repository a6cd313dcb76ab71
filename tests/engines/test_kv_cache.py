"""Tests of `unharm.engines.kv_cache`."""

from __future__ import annotations

from typing import Any

import torch

from support.engine_helpers import TEXTS
from unharm.engines.cached_attention import using_cache


def test_the_model_attends_as_before_outside(parts: tuple[Any, Any]) -> None:
    model, tokenizer = parts
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    before = model(input_ids=ids).logits
    with using_cache(model):
        pass
    assert torch.equal(model(input_ids=ids).logits, before)
