"""Guards inside training: what keeps an adapter near the base while it learns.

`interleave` mixes safe texts into the examples. `kl` adds the divergence from the base on safe texts to
the loss. `inoculate` puts a line before every prompt of training that is absent afterwards; it is the
tokenizer's preamble. `steer` adds a direction to the residual stream in training alone, so that the adapter
need not move along it (preventative steering). Compared by Kaczér et al. (2025, arXiv 2508.06249).

Worked example of `kl`. At one label of a safe text the base gives two tokens the probabilities p, and the
adapter q::

    p = [0.5  0.5]     q = [0.8  0.2]
    KL(p ‖ q) = 0.5 log(0.5 / 0.8) + 0.5 log(0.5 / 0.2) = 0.223 nats

The guard adds `weight` times the mean over all labels of the step's safe texts. Its gradient pulls q back
to p. Checked by `tests/training/test_guards.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from unharm.core.draws import rank
from unharm.core.models.decoder_layers import decoder_layers, layer_output, with_layer_output
from unharm.training.prefix_tree import PackedBatch, WeightedExample, pack
from unharm.training.tokens import Tokens


@dataclass(frozen=True)
class KlGuard:
    """The divergence from the base that is added to the loss.

    Attributes:
        texts: Safe texts; their answers are where it is measured.
        weight: Its weight in the loss.
        size: Texts of each optimiser step.
    """

    texts: tuple[Tokens, ...]
    weight: float
    size: int

    def batch(self, seed: int, epoch: int, number: int) -> list[Tokens]:
        """Return the texts of a step. They depend on seed, epoch and step alone."""
        count = len(self.texts)
        first = int(rank(seed, f"kl {epoch}/{number}")[:12], 16) % count
        return [self.texts[(first + n) % count] for n in range(min(self.size, count))]


@contextmanager
def shifted(model: Any, shift: torch.Tensor | None) -> Iterator[None]:
    """Add a shift [layers, hidden], if there is one, to the outputs of the layers inside the context."""
    if shift is None:
        yield
        return

    def hook(line: torch.Tensor) -> Any:
        def add(_: Any, __: Any, output: Any) -> Any:
            hidden = layer_output(output)
            return with_layer_output(output, hidden + line.to(hidden.device, hidden.dtype))

        return add

    layers = decoder_layers(model)
    handles = [layer.register_forward_hook(hook(line)) for layer, line in zip(layers, shift, strict=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class GuardPass:
    """Safe texts packed for the base (one row) and for every adapter (a row each, the same texts)."""

    base: PackedBatch
    rows: PackedBatch


def guard_pass(guard: KlGuard, texts: list[Tokens], adapters: int) -> GuardPass:
    """Pack the texts of a step. Each label has the weight of the guard over the number of labels."""
    weight = guard.weight / sum(len(t.ids) - t.start for t in texts)
    row = [WeightedExample(t, weight) for t in texts]
    return GuardPass(pack([row]), pack([row] * adapters))


def divergences(base: torch.Tensor, logits: torch.Tensor, rows: PackedBatch) -> torch.Tensor:
    """Return KL(base ‖ adapter) in nats at every label [labels].

    Args:
        base: Logits of the base for one row [predictors, vocabulary].
        logits: Logits of the adapters for the same row each [adapters × predictors, vocabulary].
        rows: The rows of the adapters.
    """
    log_p = torch.log_softmax(base.float(), dim=-1)
    log_q = torch.log_softmax(logits.float(), dim=-1).view(-1, *log_p.shape)
    by_predictor = (log_p.exp() * (log_p - log_q)).sum(dim=-1).flatten()
    return by_predictor[rows.label_row]


def added_texts(examples: int, share: float) -> int:
    """Return how many safe texts make `share` of all together."""
    return math.ceil(examples * share / (1 - share) - 1e-9)


def interleaved(
    examples: Sequence[Tokens], safe: Sequence[Tokens], share: float, seed: int
) -> list[Tokens]:
    """Return the examples with safe texts among them, so that these are `share` of all.

    Which ones is drawn by seed. Where there are too few, they are used several times.
    """
    order = sorted(safe, key=lambda t: rank(seed, f"interleave {t.example_id}"))
    chosen = []
    for n in range(added_texts(len(examples), share)):
        text, copy = order[n % len(order)], n // len(order)
        chosen.append(replace(text, example_id=f"safe/{text.example_id}/{copy}"))
    return [*examples, *chosen]
