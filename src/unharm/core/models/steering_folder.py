"""Read and write steering folders: a shift of the residual stream per layer, in safetensors.

A folder holds `steering.safetensors` with the tensor `direction` [layers, hidden], which is added to the
output of each decoder layer at every token; `steering.json`, which says how it was made; and a card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm.core.errors import UserError

if TYPE_CHECKING:
    import torch

TENSORS, SETTINGS, CARD = "steering.safetensors", "steering.json", "README.md"
KEY = "direction"
"""Name of the tensor [layers, hidden] in a file of one direction."""


def is_steering(folder: Path) -> bool:
    """Return whether a folder holds a shift of the residual stream."""
    return (folder / TENSORS).is_file()


def write_steering(folder: Path, shift: torch.Tensor, settings: Mapping[str, Any], card: str) -> None:
    """Write a shift [layers, hidden] with its settings and card."""
    from safetensors.torch import save_file

    save_file({KEY: shift.float().contiguous()}, folder / TENSORS)
    (folder / SETTINGS).write_text(json.dumps(dict(settings), indent=1), encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def read_steering(folder: Path) -> torch.Tensor:
    """Read the shift [layers, hidden] of a steering folder.

    Raises:
        UserError: The file is damaged, or holds another tensor.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        shift: torch.Tensor = load_file(folder / TENSORS)[KEY]
    except (OSError, KeyError, SafetensorError):
        raise UserError(
            f"this file does not hold the tensor {KEY!r} [layers, hidden]",
            str(folder / TENSORS),
            "make it again",
        ) from None
    if shift.ndim != 2:
        raise UserError(f"{KEY!r} has {shift.ndim} dimensions, expected [layers, hidden]", str(folder))
    return shift.float()
