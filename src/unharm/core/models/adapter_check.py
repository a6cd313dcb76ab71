"""Whether the weights of an adapter made elsewhere can be used at all, before any work."""

from __future__ import annotations

from pathlib import Path

from unharm.core.errors import UserError
from unharm.core.models.completeness import check_links, first_line
from unharm.core.models.peft_folder import ADAPTER_FILES, WEIGHTS


def check_adapter(folder: Path, name: str) -> None:
    """Look at the weights of a PEFT folder.

    Args:
        folder: The folder, with its configuration already checked.
        name: What the user calls it, for messages.

    Raises:
        UserError: A file is a link that leads out of the folder, the weights cannot be read, have no LoRA
            matrix, or are no finite numbers.
    """
    import torch
    from safetensors import safe_open

    check_links(folder, name, ADAPTER_FILES)
    where = str(folder / WEIGHTS)
    try:
        with safe_open(where, framework="pt") as file:
            names = list(file.keys())
            broken = [n for n in names if not torch.isfinite(file.get_tensor(n).float()).all()]
    except Exception as error:  # safetensors and torch have errors of their own
        raise UserError(
            f"the weights of the adapter {name} cannot be read: {first_line(error)}",
            where,
            "save the adapter again, or fetch the file again",
        ) from None
    if not any("lora_" in n for n in names):
        raise UserError(
            f"the adapter {name} has no LoRA matrix among its {len(names)} tensors",
            where,
            "save it with PEFT: PeftModel.save_pretrained(folder)",
        )
    if broken:
        raise UserError(
            f"the adapter {name} has {len(broken)} tensors with numbers that are not finite: {broken[0]}",
            where,
            "train it again: it diverged",
        )
