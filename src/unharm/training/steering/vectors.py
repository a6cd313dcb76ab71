"""Value vectors: one unit direction per value and layer, with the length of the residual stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.core.records import Argument
from unharm.core.values import VALUES
from unharm.training.steering.activations import Span, residual_means
from unharm.training.steering.contrasts import IN_CONTEXT, Wording, in_context_pair
from unharm.training.steering.directions import LEAST, mean_difference, probe_direction, unit

TENSORS, COUNTS = "vectors.safetensors", "vectors.json"


@dataclass(frozen=True)
class ValueVectors:
    """Value vectors of one base.

    Attributes:
        vectors: Unit directions [values, layers, hidden]; zeros for a value without texts.
        scale: Mean length of the residual stream after each layer [layers].
        counts: By value, the number of texts on each side of its contrast.
    """

    vectors: torch.Tensor
    scale: torch.Tensor
    counts: dict[str, tuple[int, int]]

    @property
    def missing(self) -> list[str]:
        """The values without a vector."""
        return [v for v, sides in self.counts.items() if min(sides) < LEAST]


def from_statements(
    model: Any, wording: Wording, arguments: Sequence[Argument], variant: str
) -> ValueVectors:
    """Make vectors of what a person with a value would and would not say.

    Args:
        model: The base.
        wording: How texts are put to it.
        arguments: Arguments of the training split.
        variant: `mean` or `probe`.
    """
    activations = residual_means(model, [wording.said(a) for a in arguments])
    make = {"mean": mean_difference, "probe": probe_direction}[variant]
    vectors, counts = [], {}
    for value in VALUES:
        carries = torch.tensor([value in a.values for a in arguments], dtype=torch.bool)
        high, low = activations[carries], activations[~carries]
        counts[value] = len(high), len(low)
        enough = min(counts[value]) >= LEAST
        vectors.append(make(high, low) if enough else torch.zeros_like(activations[0]))
    return ValueVectors(unit(torch.stack(vectors)), _scale(activations), counts)


def from_descriptions(model: Any, wording: Wording, arguments: Sequence[Argument]) -> ValueVectors:
    """Make vectors of the same statements after descriptions of people who differ in one value."""
    some = list(arguments)[:IN_CONTEXT]
    vectors, counts = [], {}
    plain = residual_means(model, [wording.said(a) for a in some])
    for value in VALUES:
        high, low = (
            residual_means(model, [wording.said(a, preamble) for a in some])
            for preamble in in_context_pair(wording.pack, value)
        )
        counts[value] = len(high), len(low)
        vectors.append(mean_difference(high, low))
    return ValueVectors(unit(torch.stack(vectors)), _scale(plain), counts)


def _scale(activations: torch.Tensor) -> torch.Tensor:
    scale: torch.Tensor = activations.norm(dim=-1).mean(dim=0)
    return scale


def harm_direction(model: Any, harmful: Sequence[Span], harmless: Sequence[Span]) -> torch.Tensor:
    """Return the unit direction from harmless to harmful prompts [layers, hidden]."""
    return unit(mean_difference(residual_means(model, harmful), residual_means(model, harmless)))


def save_vectors(folder: Path, made: ValueVectors, card: str) -> None:
    """Write vectors to a folder: tensors, counts of texts, card."""
    from safetensors.torch import save_file

    tensors = {"vectors": made.vectors.contiguous(), "scale": made.scale.contiguous()}
    save_file(tensors, folder / TENSORS)
    counts = {"values": list(VALUES), "texts": made.counts}
    (folder / COUNTS).write_text(json.dumps(counts, indent=1), encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def load_vectors(folder: Path) -> ValueVectors:
    """Read vectors from a folder. Raise `UserError` if they are damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / TENSORS)
        counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))["texts"]
        sides = {value: (int(counts[value][0]), int(counts[value][1])) for value in VALUES}
        return ValueVectors(tensors["vectors"], tensors["scale"], sides)
    except (OSError, KeyError, ValueError, SafetensorError):
        raise UserError(
            "the value vectors in this folder cannot be read", str(folder), "make them again"
        ) from None
