"""Models, plain losses and PEFT modules to compare stacks with."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from support.stacks import tiny_model
from unharm.training.stacked_lora import Stack
from unharm.training.tokens import Tokens

MODELS: dict[str, Any] = {}


def model_of(name: str) -> Any:
    if name not in MODELS:
        MODELS[name] = tiny_model(name)
    return MODELS[name]


def padded_loss(model: Any, batch: list[Tokens]) -> Any:
    """The plain way: padded on the right, all logits, mean over the label tokens."""
    longest = max(len(t.ids) for t in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens.ids)] = torch.tensor(list(tokens.ids))
        mask[row, : len(tokens.ids)] = 1
        labels[row, tokens.start : len(tokens.ids)] = torch.tensor(list(tokens.ids[tokens.start :]))
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def peft_of(model: Any, stack: Stack, row: torch.Tensor, dropout: float = 0.0) -> Any:
    """PEFT's own module with the weights of one row of a stack."""
    lora = stack.lora
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(copy.deepcopy(model), config)
    own = dict(adapted.named_parameters())
    for name, tensor in stack.peft_tensors(row).items():
        own[name.replace(".weight", ".default.weight")].data.copy_(tensor)
    return adapted


def random_rows(stack: Stack, seed: int = 5) -> torch.Tensor:
    return torch.randn(stack.weights.shape, generator=torch.Generator().manual_seed(seed)) * 0.05
