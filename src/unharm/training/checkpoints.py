"""Checkpoints of stacks in training. The last two of each stack stay in the run folder."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

from unharm.core.hashing import content_key
from unharm.core.progress import say
from unharm.store.store import Artefact, Store
from unharm.training.state import Curve, TrainingState

FOLDER = "checkpoints"
KEEP_LAST = 2


@dataclass
class Checkpoints:
    """Stores the state of one stack every `seconds`, under the content keys of its adapters."""

    store: Store
    keys: list[str]
    seconds: float
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Return whether the last checkpoint is `seconds` old."""
        return time.monotonic() - self._last >= self.seconds

    def write(self, state: TrainingState) -> None:
        """Write the state and remove all but the last checkpoints of the stack."""
        metadata = {"adapters": self.keys, "epoch": state.epoch, "step": state.step}
        path = f"{self._folder}/{state.epoch:03d}-{state.step:06d}.safetensors"
        self.store.put_bytes(Artefact(path, stack_key(self.keys), metadata), state.to_bytes())
        for old in self.store.artefacts(self._folder)[:-KEEP_LAST]:
            self.store.remove(old)
        self._last = time.monotonic()

    def clear(self) -> None:
        """Remove the checkpoints of the stack. Call it when all its adapters are stored."""
        for artefact in self.store.artefacts(self._folder):
            self.store.remove(artefact)

    @property
    def _folder(self) -> str:
        return f"{FOLDER}/{stack_key(self.keys)[:16]}"


def stack_key(keys: list[str]) -> str:
    """Return the content key of a stack: a hash of the keys of its adapters."""
    return content_key("checkpoint", 1, {}, *keys)


def checkpointed_stacks(store: Store) -> list[list[str]]:
    """Return the adapter keys of every stack that has a checkpoint."""
    keys_by_stack = {a.key: list(a.details.get("adapters", [])) for a in store.artefacts(FOLDER)}
    return [keys for keys in keys_by_stack.values() if keys]


def load_states(store: Store, size: int, among: list[str]) -> list[TrainingState]:
    """Load the last readable state of every unfinished stack.

    A damaged checkpoint is set aside with a message, and the one before it is used.

    Args:
        store: The run's store.
        size: Number of weights of one adapter; states of another size are not used.
        among: Keys of adapters. Stacks with any other adapter are skipped.
    """
    stacks: dict[str, list[Artefact]] = {}
    for artefact in store.artefacts(FOLDER):
        if set(artefact.details.get("adapters", [None])) <= set(among):
            stacks.setdefault(artefact.key, []).append(artefact)
    states = []
    for checkpoints in stacks.values():
        for artefact in sorted(checkpoints, key=lambda a: a.path, reverse=True):
            state = _read(store, artefact, size)
            if state is not None:
                states.append(state)
                break
    return states


def _read(store: Store, artefact: Artefact, size: int) -> TrainingState | None:
    """Read one checkpoint. Returns None with a message if it is damaged or does not fit."""
    if store.marker(artefact) is None:
        say(f"{artefact.path}: this checkpoint is damaged and set aside; an older one is used, if any")
        return None
    try:
        return TrainingState.read(store.locate(artefact), size)
    except ValueError as error:
        say(f"{artefact.path}: this checkpoint is not used ({error}); an older one is, if any")
        return None


def checkpointed_curves(store: Store) -> dict[str, Curve]:
    """Return the losses of every adapter in training by its key, as of its stack's last checkpoint.

    Only the heads of the files are read. A damaged or foreign file is left out.
    """
    from safetensors import SafetensorError, safe_open

    curves: dict[str, Curve] = {}
    for artefact in store.artefacts(FOLDER):  # in the order of their steps
        try:
            with safe_open(store.root / artefact.path, framework="pt") as file:
                state = json.loads((file.metadata() or {})["lockstep"])
            for key, curve in zip(state["keys"], state["curves"], strict=True):
                curves[key] = Curve(**curve)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            continue
    return curves
