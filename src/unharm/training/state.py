"""Where the training of a stack stands: everything that it needs to go on, to split, to be stored."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from unharm.training.tokens import Tokens

CURVE_POINTS = 10
"""Points of the training curve per epoch."""

TENSORS = ("weights", "first", "second", "best")


@dataclass
class AdapterJob:
    """One adapter to be trained: its name, data, seed, and the weights [size] it begins with (None:
    fresh ones), and how many examples were too long for it."""

    key: str
    label: str
    train: list[Tokens]
    valid: list[Tokens]
    seed: int
    start: torch.Tensor | None = None
    left_out: int = 0


@dataclass
class Curve:
    """The losses of one adapter in nats per label token.

    `train` holds [optimiser steps done, mean loss since the point before]; `valid` the loss on the
    validation set after every epoch; `stopped` says why training ended early, if it did.
    """

    train: list[tuple[int, float]] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str = ""
    open_loss: float = 0.0
    open_labels: int = 0

    def add(self, loss: float, labels: int) -> None:
        self.open_loss, self.open_labels = self.open_loss + loss, self.open_labels + labels

    def close_window(self, steps: int) -> None:
        if self.open_labels:
            self.train.append((steps, self.open_loss / self.open_labels))
        self.open_loss, self.open_labels = 0.0, 0


@dataclass
class TrainingState:
    """K adapters in training. `weights`, moments `first` and `second`, and the weights of the
    `best` epoch are [K, size]; `epoch` and `step` are the next to be made."""

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
        zeros = torch.zeros_like(weights)
        return cls(keys, weights, zeros, zeros.clone(), weights.clone(), [Curve() for _ in keys])

    def move_to(self, weights: torch.Tensor) -> None:
        """Takes `weights`, which hold the same numbers, as its own, and goes to their device."""
        self.weights = weights
        for name in TENSORS[1:]:
            setattr(self, name, getattr(self, name).to(weights.device))

    def select(self, chosen: slice) -> TrainingState:
        """Some of the adapters, with all they have so far."""
        tensors = {n: getattr(self, n)[chosen].clone() for n in TENSORS}
        keys, curves = self.keys[chosen], self.curves[chosen]
        return TrainingState(keys, curves=curves, epoch=self.epoch, step=self.step, **tensors)

    def halves(self) -> tuple[TrainingState, TrainingState]:
        middle = len(self.keys) // 2
        return self.select(slice(None, middle)), self.select(slice(middle, None))

    def to_bytes(self) -> bytes:
        """A safetensors file with the whole state."""
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
        """The state in a file. Raises `ValueError` where it is none, or of another shape."""
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


def steps_per_epoch(examples: int, batch: int, accumulate: int) -> int:
    """Optimiser steps of one epoch; the last may have fewer examples."""
    return math.ceil(math.ceil(examples / batch) / accumulate)
