"""Shifts of the residual stream, and what plain transformers makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unharm.core.models.decoder_layers import decoder_layers
from unharm.core.models.steering_folder import read_steering, write_steering


def steering_folders(model: Any, under: Path, count: int, size: float = 1.5) -> dict[str, Path]:
    """Write random shifts, each of one or two layers, and return their folders by name."""
    config = model.config.get_text_config()
    folders = {}
    for number in range(count):
        draw = torch.Generator().manual_seed(number)
        shift = torch.zeros(config.num_hidden_layers, config.hidden_size)
        for layer in {number % len(shift), (number // 2) % len(shift)}:
            shift[layer] = size * torch.randn(config.hidden_size, generator=draw)
        folder = under / f"shift-{number}"
        folder.mkdir(parents=True)
        write_steering(folder, shift, {}, "")
        folders[folder.name] = folder
    return folders


@torch.inference_mode()
def greedy_with_hook(model: Any, tokenizer: Any, text: str, folder: Path | None, tokens: int) -> str:
    """Return the greedy continuation by plain transformers, with the shift added by forward hooks."""
    shift = read_steering(folder) if folder else torch.zeros(0)

    def adding(vector: torch.Tensor) -> Any:
        def add(_: Any, __: Any, output: Any) -> Any:
            return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

        return add

    handles = [
        layer.register_forward_hook(adding(vector))
        for layer, vector in zip(decoder_layers(model), shift, strict=False)
    ]
    try:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        made = model.generate(
            ids, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id
        )
    finally:
        for handle in handles:
            handle.remove()
    return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
