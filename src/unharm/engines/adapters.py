"""Load adapters, check them, and activate those that the next rows need."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from unharm.core.errors import UserError
from unharm.engines.mixed_lora import Adapter, AdapterMixer, load_adapter

MAX_ADAPTERS = 8
"""Most adapters in one batch. More would cost more than they save."""

ROUNDING = 1e-5
"""Largest change of logits, relative to the largest logit, that rounding alone could cause."""


class AdapterCache:
    """Loaded adapters, by the path of their folder. An empty name is the plain base.

    Plain LoRA adapters are mixed in a batch. Others (DoRA, trained biases or modules) are exclusive: PEFT
    puts one of them at a time into the base.

    Attributes:
        model: The base.
        probe: Returns the logits of a harmless text with the adapter of a name.
        mixer: The mixed adapters in use.
        exclusive: Name of the exclusive adapter in use; empty if there is none.
    """

    def __init__(self, model: Any, probe: Callable[[str], torch.Tensor]):
        self.model, self.probe = model, probe
        self.mixer = AdapterMixer(model)
        self.exclusive = ""
        self._loaded: OrderedDict[str, Adapter | None] = OrderedDict()
        self._checked: set[str] = set()
        self._plain: torch.Tensor | None = None
        self._peft: Any = None

    def load(self, name: str, label: str, used: set[str]) -> None:
        """Load an adapter, and check once that it changes the logits of the probe.

        No exclusive adapter may be active. The adapters unused for longest are dropped from memory.

        Args:
            name: Path of its folder; empty for the plain base.
            label: Name for messages.
            used: Names that must stay loaded.

        Raises:
            UserError: The adapter does not fit the base, or changes nothing.
        """
        if not name:
            return
        if name not in self._loaded:
            adapter = load_adapter(Path(name), self.model)
            if name not in self._checked and not (adapter and adapter.is_zero):
                self._check(name, label, adapter)
                self._checked.add(name)
            self._loaded[name] = adapter
        self._loaded.move_to_end(name)
        idle = [n for n in self._loaded if n not in used and n != name]
        for old in idle[: max(0, len(self._loaded) - 2 * MAX_ADAPTERS)]:
            del self._loaded[old]

    def _check(self, name: str, label: str, adapter: Adapter | None) -> None:
        """Raise `UserError` if the logits with the adapter are not finite, or are those of the base."""
        before = dict(self.mixer.adapters)
        if self._plain is None:
            self._plain = self.probe("")
        try:
            if adapter is None:
                self.activate_exclusive(name)
            else:
                self.mixer.use({name: adapter})
            probed = self.probe(name)
        finally:
            self.activate_exclusive("")
            self.mixer.use(before)
        if not torch.isfinite(probed).all():
            raise UserError("the adapter gives logits that are not finite numbers", label)
        change = float((probed - self._plain).abs().max()) / float(self._plain.abs().max())
        if change <= ROUNDING:
            raise UserError(
                "the adapter changes nothing: its logits are those of the base",
                label,
                "train it longer or with a higher learning rate",
            )

    def can_share_batch(self, names: set[str]) -> bool:
        """Return whether rows of these adapters can be in one batch."""
        exclusive = [n for n in names if n and self._loaded[n] is None]
        return len(names - {""}) <= MAX_ADAPTERS and (not exclusive or len(names) == 1)

    def activate(self, names: set[str]) -> None:
        """Activate these adapters, which can share a batch, and no others."""
        exclusive = next((n for n in names if n and self._loaded[n] is None), "")
        if exclusive != self.exclusive:
            self.activate_exclusive(exclusive)
        if not exclusive:
            adapters = {n: self._loaded[n] for n in sorted(names) if n}
            self.mixer.use({n: a for n, a in adapters.items() if a is not None})

    def activate_exclusive(self, name: str) -> None:
        """Put an adapter that cannot be mixed into the base; an empty name removes the current one."""
        if self._peft is not None:
            self._peft.unload()
            self._peft = None
        self.exclusive = name
        if not name:
            return
        self.mixer.use({})
        try:
            self._peft = PeftModel.from_pretrained(self.model, name).eval()
        except (ValueError, RuntimeError, KeyError) as error:
            self.exclusive = ""
            raise UserError(f"the adapter does not fit the base: {error}", name) from None

    def assign(self, names: list[str], rows: torch.Tensor) -> None:
        """Set the adapter of every row of the next pass, and the row of every token [tokens]."""
        if not self.exclusive:
            self.mixer.assign(names, rows)

    @contextmanager
    def restoring_base(self) -> Iterator[None]:
        """Restore the plain base on leaving the context."""
        try:
            yield
        finally:
            self.activate_exclusive("")
            self.mixer.use({})
