"""Read the residual stream of a model on texts, as means over tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from unharm.core.models.decoder_layers import decoder_layers, layer_output

TOKENS = 4096
"""Most tokens of a forward pass, padding included."""


@dataclass(frozen=True)
class Span:
    """A text as token ids. The mean is over the tokens from `start` on."""

    ids: Sequence[int]
    start: int = 0


@contextmanager
def reading_layers(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the output of every decoder layer [rows, tokens, hidden] in each forward pass.

    Yields:
        The outputs of the last pass in the order of the layers. Clear the list before the next pass.
    """
    outputs: list[torch.Tensor] = []

    def keep(_: Any, __: Any, output: Any) -> None:
        outputs.append(layer_output(output).detach())

    handles = [layer.register_forward_hook(keep) for layer in decoder_layers(model)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def residual_means(model: Any, spans: Sequence[Span], base: Any = None) -> torch.Tensor:
    """Return the mean residual stream of each text after each layer [texts, layers, hidden], in float32.

    Args:
        model: The model to run, perhaps with an adapter.
        spans: The texts.
        base: The model whose layers are read, where `model` wraps it.
    """
    means: list[torch.Tensor | None] = [None] * len(spans)
    with reading_layers(base if base is not None else model) as outputs:
        for places in _batches(spans):
            outputs.clear()
            longest = max(len(spans[p].ids) for p in places)
            ids = torch.zeros(len(places), longest, dtype=torch.long)
            mask, wanted = torch.zeros_like(ids), torch.zeros(len(places), longest)
            for row, place in enumerate(places):
                span = spans[place]
                ids[row, : len(span.ids)] = torch.tensor(list(span.ids))
                mask[row, : len(span.ids)] = 1
                wanted[row, span.start : len(span.ids)] = 1 / (len(span.ids) - span.start)
            device = next(model.parameters()).device
            model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
            weights = wanted.to(device)
            stacked = torch.stack([torch.einsum("rt,rth->rh", weights, o.float()) for o in outputs], dim=1)
            for row, place in enumerate(places):
                means[place] = stacked[row].cpu()
    return torch.stack([mean for mean in means if mean is not None])


def _batches(spans: Sequence[Span]) -> Iterator[list[int]]:
    """Yield the places of texts of similar length, so many that a pass has at most `TOKENS` tokens."""
    batch: list[int] = []
    for place in sorted(range(len(spans)), key=lambda p: len(spans[p].ids)):
        if batch and (len(batch) + 1) * len(spans[place].ids) > TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
