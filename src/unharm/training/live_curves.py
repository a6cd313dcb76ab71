"""The losses of a stack while it trains: a small file beside its checkpoints, replaced every few seconds.

Checkpoints have the curves too, but they are large and rare. This file is for those who watch a run;
nothing is computed from it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from unharm.core.errors import UserError
from unharm.store.store import Artefact, Store
from unharm.training.checkpoints import FOLDER, checkpointed_curves, stack_key
from unharm.training.state import Curve

NAME = "curves.json"
EVERY = 3.0
"""Least number of seconds between two writes."""

Point = tuple[float, float]
"""Optimiser steps done, and a loss."""


@dataclass(frozen=True)
class OpenCurve:
    """The losses of an adapter in training. Without the live file, validation losses have no steps yet."""

    train: list[Point]
    valid: list[Point] = field(default_factory=list)


@dataclass
class LiveCurves:
    """Writes the curves of one stack.

    Attributes:
        store: The run's store.
        keys: Content keys of its adapters.
        epoch_steps: Optimiser steps of an epoch, of each adapter.
        seconds: Least time between two writes.
    """

    store: Store
    keys: list[str]
    epoch_steps: list[int]
    seconds: float = EVERY
    _written: float = float("-inf")

    @property
    def path(self) -> str:
        """The file in the run folder."""
        return f"{FOLDER}/{stack_key(self.keys)[:16]}/{NAME}"

    def update(self, curves: Sequence[Curve]) -> None:
        """Write the curves if the last write is `seconds` old.

        Errors are ignored: a full disk is reported by the next checkpoint.
        """
        if time.monotonic() - self._written < self.seconds:
            return
        rows = [
            asdict(
                OpenCurve(
                    _points(curve.train), [(steps * n, loss) for n, loss in enumerate(curve.valid, 1)]
                )
            )
            for curve, steps in zip(curves, self.epoch_steps, strict=True)
        ]
        with contextlib.suppress(OSError, UserError):
            self.store.write_plain(self.path, json.dumps(dict(zip(self.keys, rows, strict=True))))
        self._written = time.monotonic()

    def clear(self) -> None:
        """Remove the file. Call it when all adapters of the stack are stored."""
        self.store.remove(Artefact(self.path, ""))


def curves_in_training(store: Store) -> dict[str, OpenCurve]:
    """Return the losses of every adapter in training by its key, the latest that are written.

    Damaged and foreign files are left out.
    """
    curves = {key: OpenCurve(_points(c.train)) for key, c in checkpointed_curves(store).items()}
    for file in sorted((store.root / FOLDER).glob(f"*/{NAME}")):
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
            live = {
                str(key): OpenCurve(_points(r["train"]), _points(r["valid"])) for key, r in rows.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        for key, curve in live.items():
            if key not in curves or len(curve.train) >= len(curves[key].train):
                curves[key] = curve
    return curves


def _points(pairs: Sequence[Sequence[float]]) -> list[Point]:
    return [(float(x), float(y)) for x, y in pairs]
