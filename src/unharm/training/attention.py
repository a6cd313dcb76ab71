"""Attention over packed trees, for the models of transformers as they are.

It is registered with transformers under `NAME` and gets the tree of the current pass as the keyword
`packed` of the model's forward. Scaling, grouped key heads, sliding windows and soft-capped scores
follow the arguments that the model itself gives to its attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from unharm.core.errors import UserError
from unharm.core.models.transformers import check_arguments
from unharm.training.prefix_tree import PackedBatch, WeightedExample, pack
from unharm.training.tokens import Tokens

NAME = "unharm_tree"

SUPPORTED = "expected an architecture with causal self-attention, such as Llama, Qwen, Gemma or Mistral"


def tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: PackedBatch,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Shapes: `query` [rows, heads, length, width], `key` and `value` with their own number of
    heads; gives [rows, length, heads, width]. Raises `UserError` for arguments that it does not
    know, so that no kind of attention is computed wrongly in silence."""
    check_arguments(module, others, "packing", SUPPORTED)
    rows, heads, length, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    flat_query, flat_key, flat_value = (x.transpose(1, 2).reshape(-1, width) for x in (query, key, value))
    outputs = []
    for bucket in packed.buckets:
        query_places, key_places = bucket.places(heads, key.shape[1])
        q = flat_query.index_select(0, query_places.flatten()).view(*query_places.shape, width)
        k = flat_key.index_select(0, key_places.flatten()).view(*key_places.shape, width)
        v = flat_value.index_select(0, key_places.flatten()).view(*key_places.shape, width)
        bias = bucket.bias(query.dtype, sliding_window)
        if softcap is None and q.is_cuda:
            out = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        else:  # on CPUs the fused kernel's backward is slower than these few lines
            scores = (q * scale) @ k.transpose(2, 3).contiguous()
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            out = scores.add_(bias).softmax(dim=-1) @ v
        outputs.append(out.reshape(-1, width))
    out = torch.cat(outputs).index_select(0, packed.outputs(heads))
    return out.view(rows, length, heads, width), None


AttentionInterface.register(NAME, tree_attention)


@contextmanager
def packing(model: Any) -> Iterator[None]:
    """The model attends over trees inside, and as before outside."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    head = model.get_output_embeddings()
    hooks = [head.register_forward_pre_hook(lambda _, x: (_contiguous(x[0]),)), *_trim_last_layer(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model.set_attn_implementation(before)


@contextmanager
def recomputing(model: Any, wanted: bool) -> Iterator[None]:
    """Activations are computed again in the backward pass inside, where `wanted`."""
    if not wanted:
        yield
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()  # transformers recomputes in this mode alone; a base without dropout acts the same
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()
        model.eval()


def check_packing(model: Any, examples: list[Tokens]) -> None:
    """Compares logits at label positions over packed trees with those of the model's own attention.

    Raises `UserError` where they differ by more than rounding: then the architecture attends in a
    way that packing does not know.
    """
    examples = sorted(examples, key=lambda tokens: tokens.ids)  # labels come in the order of the tree
    with torch.inference_mode():
        own = []
        for tokens in examples:
            ids = torch.tensor([list(tokens.ids)], device=model.device)
            own.append(model(input_ids=ids, use_cache=False).logits[0, tokens.start - 1 : -1])
        wanted = torch.cat(own).float()
        try:
            with packing(model):
                packed = pack([[WeightedExample(t, 1.0) for t in examples]]).to(model.device)
                logits = label_logits(model, packed).float()
        except torch.OutOfMemoryError:
            raise
        except (TypeError, KeyError, RuntimeError) as error:
            raise UserError(
                f"{model.config.model_type} models cannot be packed: {error}", "base", SUPPORTED
            ) from None
    difference = float((logits[packed.label_row] - wanted).abs().max() / wanted.abs().max())
    if not difference < (1e-3 if model.dtype == torch.float32 else 5e-2):
        raise UserError(
            f"{model.config.model_type} models cannot be packed: their logits differ by {difference:.2g}",
            "base",
            SUPPORTED,
        )


def label_logits(model: Any, packed: PackedBatch) -> torch.Tensor:
    """The logits [rows × predictors, vocabulary] of the tokens that predict a label."""
    logits: torch.Tensor = model(
        input_ids=packed.ids,
        position_ids=packed.positions,
        logits_to_keep=packed.predictors,
        use_cache=False,
        packed=packed,
    ).logits
    return logits.flatten(0, 1)


def _contiguous(x: torch.Tensor) -> torch.Tensor:
    """The same numbers without gaps between rows: products with a slice take a slower way."""
    return x.reshape(-1, x.shape[-1]).view(x.shape)


def _trim_last_layer(model: Any) -> list[Any]:
    """Hooks that compute the feed-forward part of the last layer for predictors alone: nothing
    reads the other tokens any more. Models without a plain `layers[-1].mlp` go without."""
    layer = getattr(model.get_decoder(), "layers", [None])[-1]
    mlp = getattr(layer, "mlp", None)
    if not isinstance(mlp, torch.nn.Module):
        return []
    state: dict[str, int] = {}

    def note(_: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        state["predictors"] = keywords["packed"].predictors

    def cut(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        state["length"] = arguments[0].shape[1]
        return (_contiguous(arguments[0][:, -state["predictors"] :]), *arguments[1:])

    def fill(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        return pad(output, (0, 0, state["length"] - output.shape[1], 0))

    return [
        layer.register_forward_pre_hook(note, with_kwargs=True),
        mlp.register_forward_pre_hook(cut),
        mlp.register_forward_hook(fill),
    ]
