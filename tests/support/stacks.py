"""Helpers of the training tests: tiny models of every architecture, and stacks trained in one line."""

from __future__ import annotations

import random
from array import array
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from unharm.core.models.peft_folder import Lora
from unharm.training.attention import packing
from unharm.training.loop import TrainingCallbacks, initial_state, train_stack
from unharm.training.settings import Recipe
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob, TrainingState
from unharm.training.tokens import Tokens

VOCABULARY = 120
WINDOW = 7


def configs() -> dict[str, PreTrainedConfig]:
    """Small, with grouped heads, windows shorter than the examples and caps that bind."""
    shape = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "initializer_range": 0.15, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    gemma = shape | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW}
    return {
        "llama": LlamaConfig(**shape),
        "mistral": MistralConfig(**shape, sliding_window=WINDOW),
        "qwen2": Qwen2Config(
            **shape, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
        ),
        "qwen3": Qwen3Config(**shape, head_dim=8),
        "gemma2": Gemma2Config(**gemma, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
        "gemma3": Gemma3TextConfig(**gemma),
    }  # fmt: skip


def tiny_model(name: str = "llama") -> Any:
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(configs()[name]).requires_grad_(False).eval()


def tree_of_examples(seed: int, count: int, header: int = 6) -> list[Tokens]:
    """Examples that share a header, often more, sometimes everything."""
    draw = random.Random(seed)
    start = [draw.randrange(VOCABULARY) for _ in range(header)]
    found: list[Tokens] = []
    for number in range(count):
        if found and draw.random() < 0.5:
            before = list(draw.choice(found).ids)
            ids = before[: draw.randint(1, len(before))]
        else:
            ids = list(start)
        ids += [draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 12))]
        if len(ids) < 2:
            ids.append(1)
        found.append(
            Tokens(f"e{number}", array("i", ids), draw.randint(1, len(ids) - 1), f"s{number // 2}")
        )
    return found


def job(seed: int, count: int = 32, valid: int = 4, key: str = "") -> AdapterJob:
    examples = tree_of_examples(seed, count + valid)
    return AdapterJob(key or f"k{seed}", f"adapter {seed}", examples[:count], examples[count:], 11)


def trained(
    model: Any,
    jobs: list[AdapterJob],
    lora: Lora,
    recipe: Recipe,
    callbacks: TrainingCallbacks | None = None,
    state: TrainingState | None = None,
    row_tokens: int = 4096,
    accelerator: bool = False,
) -> tuple[Stack, TrainingState]:
    """All jobs in one stack, to their end; on request with the settings of an accelerator."""
    stack = Stack(model, lora, len(jobs))
    stack.counter_masks = accelerator
    state = initial_state(stack, jobs) if state is None else state
    with packing(model), stack.attached():
        train_stack(
            stack, state, jobs, recipe, row_tokens, callbacks or TrainingCallbacks(), ahead=accelerator
        )
    return stack, state
