"""Tiny models whose harm is caused by one direction of the residual stream, or by none.

The cause is in the model: profiles move activations along ten directions, and the output row of one token,
the harmful one, lies along a single direction. Harm is the share of that token in draws from the model. In
a null model the row is orthogonal to every direction. So what is named is right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray

HIDDEN, LAYERS, VOCABULARY = 32, 3, 48
DIRECTIONS = 10
BAD = 7
"""The harmful token."""


@dataclass(frozen=True)
class Planted:
    """A model with profiles that shift it.

    Attributes:
        model: A Llama of random weights, but for the row of the harmful token.
        directions: Unit directions [directions, layers, hidden], the same at every layer.
        cause: The place of the direction that causes harm; None in a null model.
        shifts: What each profile adds to the output of the first layer [profiles, hidden].
        clusters: Cluster of each profile.
    """

    model: Any
    directions: Any
    cause: int | None
    shifts: Any
    clusters: Array


def planted(seed: int, null: bool = False, targets: int = 14, copies: int = 3) -> Planted:
    """Make a model, and profiles of which `copies` are near each target."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=LAYERS,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.normal(size=(HIDDEN, HIDDEN)))[0].T
    units = torch.tensor(basis[:DIRECTIONS], dtype=torch.float32)
    cause = None if null else int(draw.integers(DIRECTIONS))
    row = torch.tensor(basis[DIRECTIONS], dtype=torch.float32) if cause is None else units[cause]
    with torch.no_grad():
        model.lm_head.weight[BAD] = 1.5 * row
    clusters = np.repeat(np.arange(targets), copies)
    common = draw.normal(size=(targets, DIRECTIONS))
    amounts = 0.7 * common[clusters] + 0.7 * draw.normal(size=(len(clusters), DIRECTIONS))
    shifts = torch.tensor(amounts, dtype=torch.float32) @ units
    directions = units[:, None].expand(-1, LAYERS, -1).contiguous()
    return Planted(model, directions, cause, 0.4 * shifts, clusters)


def texts(seed: int, count: int = 24, length: int = 6) -> list[list[int]]:
    """Return random token ids of held-out texts."""
    ids: list[list[int]] = (
        np.random.default_rng([seed, 1]).integers(1, VOCABULARY, (count, length)).tolist()
    )
    return ids


def harm_rates(made: Planted, prompts: list[list[int]], seed: int, draws: int = 400) -> Array:
    """Return the share of the harmful token in draws after the prompts, by profile [profiles]."""
    import torch

    draw = np.random.default_rng([seed, 2])
    rates = []
    for shift in made.shifts:
        handle = made.model.model.layers[0].register_forward_hook(adding(shift))
        with torch.inference_mode():
            logits = made.model(torch.tensor(prompts)).logits[:, -1]
        handle.remove()
        chance = float(torch.softmax(logits, dim=-1)[:, BAD].mean())
        rates.append(draw.binomial(draws, chance) / draws)
    return np.array(rates)


def adding(shift: Any) -> Any:
    """Return a forward hook that adds a shift to what a layer returns."""

    def add(_: Any, __: Any, output: Any) -> Any:
        return (output[0] + shift, *output[1:]) if isinstance(output, tuple) else output + shift

    return add
