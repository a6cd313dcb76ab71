"""Find the decoder layers of a model, whose outputs are the residual stream."""

from __future__ import annotations

from typing import Any

from unharm.core.errors import UserError


def decoder_layers(model: Any) -> list[Any]:
    """Return the decoder layers of a causal language model of transformers, in order.

    They are the first list of modules that has as many entries as the configuration has layers.

    Raises:
        UserError: There is no such list.
    """
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    kind = getattr(model.config, "model_type", type(model).__name__)
    raise UserError(
        f"the layers of {kind} models are not found, so their activations cannot be read or shifted",
        "arms",
        "leave out the steer arms and 'mechanism'",
    )


def layer_output(output: Any) -> Any:
    """Return the residual stream [rows, tokens, hidden] from what a decoder layer returns."""
    return output[0] if isinstance(output, tuple) else output


def with_layer_output(output: Any, hidden: Any) -> Any:
    """Return what a decoder layer returned, with another residual stream."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
