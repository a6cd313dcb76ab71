"""Refuse bases whose layers unharm cannot run, by their structure and before any work.

Training over prefix trees and generation from a cache of our own replace the attention function of
transformers. This is right only where attention is the one place in which tokens meet. A layer with a
convolution or a recurrence mixes tokens on its own, and would run without an error and with wrong text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unharm.core.errors import UserError

RECURRENT = ("A_log", "dt_bias", "time_decay", "recurrent_param", "ssm_state")
"""Names of parameters that only recurrent and state-space layers have."""

UNPASSED = ("NemotronDecoderLayer",)
"""Layers that take keyword arguments and drop them before their attention, in transformers 5."""

SERVED = "serve it, for example with vLLM, and use the engine openai with adapters made elsewhere"


def check_structure(model: Any, name: str) -> None:
    """Look for a layer that unharm cannot run. The model may be laid out without memory.

    Args:
        model: A causal language model of transformers.
        name: What the user calls it, for messages.

    Raises:
        UserError: There is such a layer; the message names the first one.
    """
    for layer, reason in unsupported_layers(model):
        kind = getattr(model.config, "model_type", type(model).__name__)
        raise UserError(f"{kind} models cannot be run: {layer} {reason}", name, SERVED)


def unsupported_layers(model: Any) -> Iterator[tuple[str, str]]:
    """Yield the layers that cannot be run, each with the reason, in the order of the model."""
    from torch import nn

    leaves_out_tokens = any(hasattr(m, "_maybe_slice_kv_shared_inputs") for m in model.modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
            yield name, "is a convolution over tokens"
        own = {parameter for parameter, _ in module.named_parameters(recurse=False)}
        if own & set(RECURRENT):
            yield name, "is a recurrent layer"
        if "sinks" in own:
            yield name, "has attention sinks"
        if getattr(module, "is_kv_shared_layer", False) and leaves_out_tokens:
            yield name, "takes the keys and values of another layer, and only the last tokens go through it"
        if type(module).__name__ in UNPASSED:
            yield name, "does not pass on what its attention is given"
    if getattr(model.config.get_text_config(), "attention_chunk_size", None):
        yield _first_attention(model), "attends within chunks of the text"
    if not getattr(model, "_supports_attention_backend", False):
        yield _first_attention(model), "does not use the attention interface of transformers"


def _first_attention(model: Any) -> str:
    """Return the name of the first attention layer; that of the whole model if there is none."""
    names = (
        n for n, m in model.named_modules() if type(m).__name__.lower().endswith(("attention", "attn"))
    )
    return next(names, type(model).__name__)
