"""What a generated token costs on an accelerator, counted on a CPU with the accelerator's settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from support.operations import Operations
from unharm.engines.cached_attention import using_cache
from unharm.engines.kv_cache import ForwardPass
from unharm.engines.prompt_groups import PromptGroup
from unharm.engines.requests import Request, Sampling, Task
from unharm.engines.rows import Rows

BUDGET = 2300
"""Operators of one token: 32 layers, 224 places, no adapter. Views count."""
LENGTH = 200


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=32, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(shape).eval()


def steps(model: Any, exact: bool, sampling: Sampling) -> Iterator[Operations]:
    """Read twenty prompts with three samples each, then yield the costs of each of three tokens."""
    rows, task = Rows(torch.device("cpu"), exact=exact), Task("t", (), sampling)
    prompts = [
        PromptGroup(
            task,
            [Request(f"{i}/{k}", str(i), k, "", 7 * i + k, 0) for k in range(3)],
            [(i + j) % 100 for j in range(LENGTH)],
            0,
            "",
        )
        for i in range(20)
    ]

    def logits(forward_pass: ForwardPass, tokens: torch.Tensor) -> Any:
        return model(
            input_ids=tokens,
            position_ids=forward_pass.positions,
            use_cache=False,
            forward_pass=forward_pass,
        ).logits[0]

    with using_cache(model), torch.inference_mode():
        forward_pass, tokens, last = rows.add(prompts)
        rows.advance(0, logits(forward_pass, tokens)[last], lambda sample: "")
        for _ in range(3):
            with Operations() as operations:
                forward_pass, tokens = rows.next_pass()
                assert forward_pass.places == 224
                found = logits(forward_pass, tokens)
                rows.mark_written()
                rows.advance(0, found[: rows.count], lambda sample: "")
            yield operations


@pytest.mark.parametrize("sampling", [Sampling(20, 0.1, 0.75), Sampling(20, 0.0, 1.0)])
def test_a_token_waits_once_and_keeps_the_budget(model: Any, sampling: Sampling) -> None:
    for operations in steps(model, False, sampling):
        assert operations.waits.total() <= 1
        assert operations.copies <= 7
        copied = operations.operators["index_select"]  # rows whose samples part are copied, once
        assert operations.total <= (1.2 * BUDGET if copied else BUDGET)


def test_blocks_that_make_a_cpu_exact_are_not_used(model: Any) -> None:
    on_cpu, on_device = (next(iter(steps(model, exact, Sampling(20, 0.0, 1.0)))) for exact in (True, False))
    assert on_cpu.total > 3 * on_device.total
    assert on_device.operators["scaled_dot_product_attention"] == 32
    assert on_cpu.operators["scaled_dot_product_attention"] == 0
