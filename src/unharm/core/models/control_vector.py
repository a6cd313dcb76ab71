"""Write shifts of the residual stream as control vectors of llama.cpp (GGUF).

llama.cpp adds `direction.N` to what layer N returns, counted from 0, for N from 1 on: the output of the
first layer cannot be shifted by such a file.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from unharm.core.errors import UserError

if TYPE_CHECKING:
    import torch

ARCHITECTURE = "controlvector"


def writable(shift: torch.Tensor) -> bool:
    """Return whether llama.cpp can apply a shift [layers, hidden]: its first layer must be zero."""
    return not bool(shift[0].any())


def write_control_vector(file: Path, shift: torch.Tensor, model_type: str) -> None:
    """Write a shift [layers, hidden] as a control vector.

    Args:
        file: The file to write.
        shift: What is added to the output of each layer.
        model_type: The architecture of the base, as a hint for people.

    Raises:
        UserError: The package gguf is missing, or the shift changes the first layer.
    """
    if find_spec("gguf") is None:
        raise UserError("control vectors need the package gguf", str(file), "pip install 'unharm[gguf]'")
    if not writable(shift):
        raise UserError(
            "llama.cpp cannot shift the output of the first layer",
            str(file),
            "give steering.layers from 1 on, or use steering.safetensors",
        )
    from gguf import GGUFWriter

    writer = GGUFWriter(str(file), ARCHITECTURE)
    writer.add_string(f"{ARCHITECTURE}.model_hint", model_type)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", int(shift.any(dim=1).sum()))
    for layer in shift.any(dim=1).nonzero()[:, 0].tolist():
        writer.add_tensor(f"direction.{layer}", shift[layer].float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
