"""Tests of `unharm.engines.attention_check`."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from support.engine_helpers import GREEDY, requests
from unharm.core.errors import UserError
from unharm.engines.hf import HfEngine
from unharm.engines.requests import generate


def test_a_base_that_attends_in_its_own_way_is_told(parts: tuple[Any, Any]) -> None:
    """Whatever does not give the model's own logits is refused before anything is generated."""
    from transformers import BloomConfig, MambaConfig

    for config in (
        BloomConfig(vocab_size=len(parts[1]), hidden_size=32, n_layer=1, n_head=2),
        MambaConfig(vocab_size=len(parts[1]), hidden_size=32, num_hidden_layers=1, state_size=4),
    ):
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
        with pytest.raises(UserError, match=f"cannot run {config.model_type} models"):
            generate(HfEngine(model, parts[1], "base"), requests(), GREEDY)
