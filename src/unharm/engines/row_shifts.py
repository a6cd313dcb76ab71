"""Steer the rows of one batch, each by its own shift of the residual stream.

Every decoder layer that any row shifts gets a hook. The hook looks up the shift of each token's row in a
table with one line per adapter in use; line 0 is zero, for rows of the plain base and of LoRA adapters.

Worked example. Two shifts in use, `x` on layer 1 and `y` on layers 1 and 2; rows 0 to 2 use y, nothing, x::

    table of layer 1    line 0: 0   line 1: x₁   line 2: y₁
    table of layer 2    line 0: 0   line 1: 0    line 2: y₂
    lines of the rows   2 0 1
    added to layer 1    y₁  0  x₁
    added to layer 2    y₂  0  0

The example is checked by `tests/engines/test_row_shifts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.core.models.decoder_layers import decoder_layers, layer_output, with_layer_output


def check_shift(shift: torch.Tensor, model: Any, where: str) -> None:
    """Raise `UserError` if a shift [layers, hidden] does not fit the base."""
    config = model.config.get_text_config()
    expected = (config.num_hidden_layers, config.hidden_size)
    if tuple(shift.shape) != expected:
        raise UserError(
            f"the shift is {shift.shape[0]} layers × {shift.shape[1]} in it, "
            f"{expected[0]} × {expected[1]} in the base",
            where,
            "use the base that it was made for",
        )


class RowShifts:
    """The shifts in use on a model, and the shift of every token of the next pass."""

    def __init__(self, model: Any):
        self.model = model
        self._tables: dict[int, torch.Tensor] = {}
        self._handles: list[Any] = []
        self._lines: torch.Tensor | None = None

    def use(self, shifts: Mapping[int, torch.Tensor], count: int) -> None:
        """Hook the layers that these shifts change, and no others.

        Args:
            shifts: The shift [layers, hidden] of an adapter, by its number among those in use.
            count: How many adapters are in use.
        """
        for handle in self._handles:
            handle.remove()
        self._handles, self._tables, self._lines = [], {}, None
        if not shifts:
            return
        layers = decoder_layers(self.model)
        changed = torch.stack([shift.ne(0).any(dim=1) for shift in shifts.values()]).any(dim=0)
        for number in changed.nonzero()[:, 0].tolist():
            table = torch.zeros(count + 1, next(iter(shifts.values())).shape[1])
            for adapter, shift in shifts.items():
                table[adapter + 1] = shift[number]
            self._tables[number] = table.to(self.model.device, self.model.dtype)
            self._handles.append(layers[number].register_forward_hook(self._hook(number)))

    def assign(self, numbers: torch.Tensor | None) -> None:
        """Set the adapter of every token of the next pass.

        Args:
            numbers: Number of each token's adapter [tokens], -1 for the plain base; None for no adapter.
        """
        self._lines = None if numbers is None or not self._handles else numbers + 1

    def _hook(self, number: int) -> Any:
        def add(_: Any, __: Any, output: Any) -> Any:
            if self._lines is None:
                return output
            hidden = layer_output(output)
            return with_layer_output(output, hidden + self._tables[number][self._lines].to(hidden.dtype))

        return add
