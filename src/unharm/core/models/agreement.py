"""How far logits may differ from a model's own before a difference is more than rounding.

The measure is the model itself: the same text by two attention functions of transformers (`sdpa`, `eager`).
A deep model in bfloat16 differs from itself by more than a constant bound would allow, and a small one in
float32 by so little that a constant bound would hide errors.
"""

from __future__ import annotations

from statistics import median
from typing import Any

NOISE_FACTOR = 4.0
"""Our attention may differ from the model's by this multiple of the difference between its own two."""
FLOORS = {"float32": 2e-5, "bfloat16": 3e-2, "float16": 4e-3}
"""Least tolerance by type, some steps of its rounding (in float32 many, as sums dominate)."""
CEILING = 0.2
"""Largest tolerance: beyond it nothing is compared any more."""


def routes(model: Any) -> bool:
    """Return whether tokens choose among experts."""
    config = model.config.get_text_config()
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    return any((getattr(config, name, None) or 0) > 1 for name in names)


def systematic_difference(model: Any, differences: list[float]) -> float:
    """Return the largest of the differences at several places of a text.

    For experts in less than float32 it is the median: a router that lies between two experts tips over by
    rounding, and then one place has other logits.
    """
    if routes(model) and str(model.dtype) != "torch.float32":
        return median(differences)
    return max(differences)


def relative_difference(logits: Any, expected: Any) -> float:
    """Return the largest difference, relative to the largest expected logit."""
    return float((logits.float() - expected.float()).abs().max() / expected.float().abs().max())


def tolerance(model: Any, ids: list[int]) -> float:
    """Return the relative difference of logits that counts as rounding, for a text of this model.

    Args:
        model: A causal language model of transformers, with its own attention in place.
        ids: Token ids of a text.
    """
    floor = FLOORS.get(str(model.dtype).removeprefix("torch."), FLOORS["bfloat16"])
    return min(CEILING, max(floor, NOISE_FACTOR * own_noise(model, ids)))


def own_noise(model: Any, ids: list[int]) -> float:
    """Return the relative difference between the logits of a model's own attention functions.

    It is 0 where the model has only one.
    """
    import torch

    before = model.config._attn_implementation
    other = "eager" if before == "sdpa" else "sdpa"
    if before not in ("sdpa", "eager") or not getattr(model, f"_supports_{other}", other == "eager"):
        return 0.0
    tokens = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, use_cache=False).logits[0]
        try:
            model.set_attn_implementation(other)
            again = model(input_ids=tokens, use_cache=False).logits[0]
        except (ValueError, ImportError):
            return 0.0
        finally:
            model.set_attn_implementation(before)
    return relative_difference(again, logits)
