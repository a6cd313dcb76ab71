"""The adapters at hand: loaded, checked, and put beside the base for the rows that need them."""

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
"""Adapters in one batch; more would cost more than they save."""

ROUNDING = 1e-5
"""A change of logits, as a share of the largest, that rounding alone could make."""


class AdapterCache:
    """Adapters by the path of their folder; an empty name is the plain base.

    Plain LoRA adapters are mixed in a batch. Others (DoRA, trained biases or modules) are left to PEFT,
    which puts one at a time into the base; `alone` names it.
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
        """Loads an adapter, and checks once that it changes the logits of the probe; forgets the
        oldest ones that are not `used`.

        Raises `UserError` where it does not fit the base, or changes nothing. Nothing may stand alone.
        """
        if not name:
            return
        if name not in self._loaded:
            adapter = load_adapter(Path(name), self.model)
            if name not in self._checked:
                self._check(name, label, adapter)
                self._checked.add(name)
            self._loaded[name] = adapter
        self._loaded.move_to_end(name)
        idle = [n for n in self._loaded if n not in used and n != name]
        for old in idle[: max(0, len(self._loaded) - 2 * MAX_ADAPTERS)]:
            del self._loaded[old]

    def _check(self, name: str, label: str, adapter: Adapter | None) -> None:
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
            raise UserError("the adapter gives logits that are no numbers", label)
        change = float((probed - self._plain).abs().max()) / float(self._plain.abs().max())
        if change <= ROUNDING:
            raise UserError(
                "the adapter changes nothing: its logits are those of the base",
                label,
                "train it longer or with a higher learning rate",
            )

    def can_share_batch(self, names: set[str]) -> bool:
        """Whether rows of these adapters can stand in one batch."""
        alone = [n for n in names if n and self._loaded[n] is None]
        return len(names - {""}) <= MAX_ADAPTERS and (not alone or len(names) == 1)

    def activate(self, names: set[str]) -> None:
        """Puts these adapters, which can stand together, beside the base."""
        alone = next((n for n in names if n and self._loaded[n] is None), "")
        if alone != self.exclusive:
            self.activate_exclusive(alone)
        if not alone:
            found = {n: self._loaded[n] for n in sorted(names) if n}
            self.mixer.use({n: a for n, a in found.items() if a is not None})

    def activate_exclusive(self, name: str) -> None:
        """Puts an adapter that cannot be mixed into the base, or takes it out."""
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
        """The adapter of every row of the next pass, and the row of every token."""
        if not self.exclusive:
            self.mixer.assign(names, rows)

    @contextmanager
    def restoring_base(self) -> Iterator[None]:
        """The base is as it was afterwards."""
        try:
            yield
        finally:
            self.activate_exclusive("")
            self.mixer.use({})
