"""Checkpoints of stacks in training: the last two of each in the run folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from unharm.core.hashing import content_key
from unharm.core.progress import say
from unharm.store.store import Artefact, Store
from unharm.training.state import TrainingState

FOLDER = "checkpoints"
KEEP_LAST = 2


@dataclass
class Checkpoints:
    """Stores the state of one stack every `seconds`. The adapters' content keys name it."""

    store: Store
    keys: list[str]
    seconds: float
    _last: float = field(default_factory=time.monotonic)

    def write_if_due(self, state: TrainingState) -> None:
        """Writes the state where it is time to."""
        if time.monotonic() - self._last >= self.seconds:
            self.write(state)

    def write(self, state: TrainingState) -> None:
        about = {"adapters": self.keys, "epoch": state.epoch, "step": state.step}
        path = f"{self._folder}/{state.epoch:03d}-{state.step:06d}.safetensors"
        self.store.put_bytes(Artefact(path, stack_key(self.keys), about), state.to_bytes())
        for old in self.store.artefacts(self._folder)[:-KEEP_LAST]:
            self.store.remove(old)
        self._last = time.monotonic()

    def clear(self) -> None:
        """Removes what was stored, when all adapters of the stack are done."""
        for artefact in self.store.artefacts(self._folder):
            self.store.remove(artefact)

    @property
    def _folder(self) -> str:
        return f"{FOLDER}/{stack_key(self.keys)[:16]}"


def stack_key(keys: list[str]) -> str:
    return content_key("checkpoint", 1, {}, *keys)


def checkpointed_stacks(store: Store) -> list[list[str]]:
    """The adapters' keys of every stack that has a checkpoint."""
    found = {a.key: list(a.about.get("adapters", [])) for a in store.artefacts(FOLDER)}
    return [keys for keys in found.values() if keys]


def load_states(store: Store, size: int, among: list[str]) -> list[TrainingState]:
    """The last sound state of every unfinished stack of these adapters, which have `size` numbers.

    A damaged checkpoint is set aside with a message, and the one before it is used.
    """
    stacks: dict[str, list[Artefact]] = {}
    for artefact in store.artefacts(FOLDER):
        if set(artefact.about.get("adapters", [None])) <= set(among):
            stacks.setdefault(artefact.key, []).append(artefact)
    found = []
    for slots in stacks.values():
        for artefact in sorted(slots, key=lambda a: a.path, reverse=True):
            state = _read(store, artefact, size)
            if state is not None:
                found.append(state)
                break
    return found


def _read(store: Store, artefact: Artefact, size: int) -> TrainingState | None:
    if store.marker(artefact) is None:
        say(f"{artefact.path}: this checkpoint is damaged and set aside; the one before it is used, if any")
        return None
    try:
        return TrainingState.read(store.locate(artefact), size)
    except ValueError as error:
        say(f"{artefact.path}: this checkpoint is not used ({error}); the one before it is, if any")
        return None
