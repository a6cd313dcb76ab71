"""The state of a stack in training: all that is needed to resume, split or store it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from unharm.training.guards import KlGuard
from unharm.training.tokens import Tokens

CURVE_POINTS = 10
"""Points of the training curve per epoch."""

TENSORS = ("weights", "first", "second", "best")


@dataclass
class AdapterJob:
    """One adapter to train.

    Attributes:
        key: Content key of the adapter.
        label: Name for messages.
        train: Training examples.
        valid: Validation examples; may be empty.
        seed: Seed of initial weights, order and dropout.
        start: Initial weights [size]; random ones if None.
        left_out: Number of examples that were too long.
        guard: The divergence from the base that is added to its loss; the same for all adapters of a stack.
        shift: What is added to the output of each layer in training [layers, hidden]; the same too.
        fall: The fall of the training loss that the kept epoch comes nearest to; None where the epoch with
            the lowest validation loss is kept.
    """

    key: str
    label: str
    train: list[Tokens]
    valid: list[Tokens]
    seed: int
    start: torch.Tensor | None = None
    left_out: int = 0
    guard: KlGuard | None = None
    shift: torch.Tensor | None = None
    fall: float | None = None


@dataclass
class Curve:
    """The losses of one adapter, in nats per label token.

    Attributes:
        train: (optimiser steps done, mean loss since the point before).
        valid: Validation loss after every epoch.
        best_epoch: The epoch whose weights are kept, from 1; 0 before the first has ended.
        stopped: Why training ended early; empty if it did not.
        open_loss: Sum of losses since the last point.
        open_labels: Number of labels since the last point.
    """

    train: list[tuple[int, float]] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = ""
    open_loss: float = 0.0
    open_labels: int = 0

    def add(self, loss: float, labels: int) -> None:
        """Add the summed loss of some labels to the current point."""
        self.open_loss, self.open_labels = self.open_loss + loss, self.open_labels + labels

    def close_window(self, steps: int) -> None:
        """Append the mean loss since the point before to the curve."""
        if self.open_labels:
            self.train.append((steps, self.open_loss / self.open_labels))
        self.open_loss, self.open_labels = 0.0, 0


@dataclass
class TrainingState:
    """The state of K adapters in training.

    Attributes:
        keys: Content keys of the adapters.
        weights: Current weights [K, size].
        first: First moments [K, size].
        second: Second moments [K, size].
        best: Weights of the best epoch so far [K, size].
        curves: Losses of each adapter.
        epoch: The epoch of the next step, from 0.
        step: The next step within it, from 0.
    """

    keys: list[str]
    weights: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    best: torch.Tensor
    curves: list[Curve]
    epoch: int = 0
    step: int = 0

    @classmethod
    def begin(cls, keys: list[str], weights: torch.Tensor) -> TrainingState:
        """Return the state before the first step."""
        zeros = torch.zeros_like(weights)
        return cls(keys, weights, zeros, zeros.clone(), weights.clone(), [Curve() for _ in keys])

    def move_to(self, weights: torch.Tensor) -> None:
        """Use `weights` as the current weights, and move everything else to their device.

        Args:
            weights: A tensor with the same numbers as the current weights.
        """
        self.weights = weights
        for name in TENSORS[1:]:
            setattr(self, name, getattr(self, name).to(weights.device))

    def select(self, chosen: slice) -> TrainingState:
        """Return the state of some of the adapters, in the memory of this machine."""
        tensors = {n: getattr(self, n)[chosen].to("cpu", copy=True) for n in TENSORS}
        keys, curves = self.keys[chosen], self.curves[chosen]
        return TrainingState(keys, curves=curves, epoch=self.epoch, step=self.step, **tensors)

    def halves(self) -> tuple[TrainingState, TrainingState]:
        """Split the stack in two."""
        middle = len(self.keys) // 2
        return self.select(slice(None, middle)), self.select(slice(middle, None))

    def to_bytes(self) -> bytes:
        """Return the state as a safetensors file."""
        from safetensors.torch import save

        state = {
            "keys": self.keys,
            "curves": [asdict(c) for c in self.curves],
            "epoch": self.epoch,
            "step": self.step,
        }
        tensors = {n: getattr(self, n).detach().cpu().contiguous() for n in TENSORS}
        data: bytes = save(tensors, metadata={"lockstep": json.dumps(state)})
        return data

    @classmethod
    def read(cls, path: Path, size: int) -> TrainingState:
        """Read a state from a file.

        Args:
            path: A safetensors file.
            size: Expected number of weights of one adapter.

        Raises:
            ValueError: The file is no checkpoint, or one of another adapter size.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                state: dict[str, Any] = json.loads((file.metadata() or {})["lockstep"])
                tensors = {n: file.get_tensor(n) for n in TENSORS}
        except (SafetensorError, KeyError, OSError) as error:
            raise ValueError(f"not a checkpoint: {error}") from None
        if any(t.shape != (len(state["keys"]), size) for t in tensors.values()):
            raise ValueError("a checkpoint of adapters of another shape")
        curves = [
            Curve(**c | {"train": [(int(s), float(v)) for s, v in c["train"]]}) for c in state["curves"]
        ]
        return cls(state["keys"], curves=curves, epoch=state["epoch"], step=state["step"], **tensors)
