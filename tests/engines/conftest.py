"""Fixtures of the tests of `unharm.engines`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture(scope="module")
def parts(tiny_base: Path) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.padding_side = "left"
    return AutoModelForCausalLM.from_pretrained(tiny_base).requires_grad_(False).eval(), tokenizer


@pytest.fixture(scope="module")
def adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters that change much, of several kinds; `dora` cannot be mixed with others."""
    out = tmp_path_factory.mktemp("adapters")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {}, "other": {}, "wide": {"r": 16, "lora_alpha": 8},
        "everywhere": {"target_modules": ["q_proj", "o_proj", "up_proj", "down_proj"]},
        "stable": {"use_rslora": True}, "pattern": {"alpha_pattern": {"v_proj": 64}},
        "dora": {"use_dora": True},
    }  # fmt: skip
    for number, (name, more) in enumerate(kinds.items()):
        torch.manual_seed(number)
        shape = {
            "r": 4,
            "lora_alpha": 16,
            "target_modules": ["q_proj", "v_proj"],
            "init_lora_weights": False,
        }
        config = LoraConfig(**(shape | more), task_type="CAUSAL_LM")
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_base), config).save_pretrained(out / name)
    return {name: out / name for name in kinds}
