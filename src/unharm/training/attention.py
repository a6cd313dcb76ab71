"""Attend over packed prefix trees with unmodified transformers models.

`tree_attention` is registered with transformers under `NAME`. The model's forward passes the current batch
to it as the keyword `packed`. Scaling, grouped key heads, sliding windows and soft-capped scores follow the
arguments that the model gives.

Worked example. The row of `training/prefix_tree.py` holds six tokens at the places ::

    place    0  1  2  3  4  5
    token    A  D  E  F  B  C

The example `A B C E` adds one block: the query at place 2 (E) and the keys at places 0 4 5 2 (A B C E).
The block's queries, keys and values are gathered from those places, attention runs within the block, and
the output goes back to place 2. E never meets D, which follows the same prefix::

    out[2] = softmax(q[2] · k[0 4 5 2]) · v[0 4 5 2]

The example is checked by `tests/training/test_attention_example.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from unharm.core.errors import UserError
from unharm.core.models.agreement import relative_difference, systematic_difference, tolerance
from unharm.core.models.transformers import check_arguments, unplanned_attention
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
    """Compute attention over the packed trees.

    Args:
        module: The attention module that calls.
        query: [rows, heads, length, width].
        key: [rows, key heads, length, width].
        value: [rows, key heads, length, value width].
        attention_mask: Ignored; the trees say who attends to whom.
        packed: The trees of this pass.
        scaling: Factor of the scores; 1 / √width if None.
        sliding_window: Number of positions that a token sees, itself included.
        softcap: Bound of the scores, as in Gemma 2.

    Returns:
        The output [rows, length, heads, value width], and None for the attention weights.

    Raises:
        UserError: An argument is unknown, so the result could be wrong.
    """
    check_arguments(module, others, "packing", SUPPORTED)
    rows, heads, length, width = query.shape
    scale = width**-0.5 if scaling is None else scaling
    flat_query, flat_key, flat_value = (
        x.transpose(1, 2).reshape(-1, x.shape[3]) for x in (query, key, value)
    )
    value_width = value.shape[3]  # not that of the keys in latent attention
    outputs = []
    for bucket in packed.buckets:
        query_places, key_places = bucket.places(heads, key.shape[1])
        q = flat_query.index_select(0, query_places.flatten()).view(*query_places.shape, width)
        k = flat_key.index_select(0, key_places.flatten()).view(*key_places.shape, width)
        v = flat_value.index_select(0, key_places.flatten()).view(*key_places.shape, value_width)
        bias = bucket.bias(query.dtype, sliding_window)
        if softcap is None and fused_kernels(q):
            out = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
        else:  # on a CPU the backward pass of the fused kernel is slower than this
            scores = (q * scale) @ k.transpose(2, 3).contiguous()
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            out = scores.add_(bias).softmax(dim=-1) @ v
        outputs.append(out.reshape(-1, value_width))
    out = torch.cat(outputs).index_select(0, packed.outputs(heads))
    return out.view(rows, length, heads, value_width), None


def fused_kernels(query: torch.Tensor) -> bool:
    """Return whether to attend with torch's fused kernels."""
    return query.is_cuda


AttentionInterface.register(NAME, tree_attention)


@contextmanager
def packing(model: Any) -> Iterator[None]:
    """Make the model attend over packed trees inside the context."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    head = model.get_output_embeddings()
    hooks = [head.register_forward_pre_hook(lambda _, x: (_contiguous(x[0]),)), *_trim_last_layer(model)]
    try:
        with unplanned_attention():
            yield
    finally:
        for hook in hooks:
            hook.remove()
        model.set_attn_implementation(before)


@contextmanager
def recomputing(model: Any, wanted: bool) -> Iterator[None]:
    """Recompute activations in the backward pass inside the context, if `wanted`."""
    if not wanted:
        yield
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()  # transformers recomputes in training mode only; without dropout nothing else changes
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()
        model.eval()


def check_packing(model: Any, examples: list[Tokens]) -> None:
    """Compare the logits of packed examples with those of the model's own attention.

    Raises:
        UserError: They differ by more than rounding, so the architecture attends in an unsupported way.
    """
    examples = sorted(examples, key=lambda tokens: tokens.ids)  # the tree orders the labels this way
    allowed = tolerance(model, list(max(examples, key=lambda tokens: len(tokens.ids)).ids))
    with torch.inference_mode():
        reference = []
        for tokens in examples:
            ids = torch.tensor([list(tokens.ids)], device=model.device)
            reference.append(model(input_ids=ids, use_cache=False).logits[0, tokens.start - 1 : -1])
        wanted = torch.cat(reference).float()
        try:
            with packing(model):
                packed = pack([[WeightedExample(t, 1.0) for t in examples]]).to(model.device)
                logits = label_logits(model, packed).float()
        except torch.OutOfMemoryError:
            raise
        except (TypeError, KeyError, IndexError, RuntimeError) as error:
            raise UserError(
                f"{model.config.model_type} models cannot be packed: {error}", "base", SUPPORTED
            ) from None
    pairs = zip(logits[packed.label_row], wanted, strict=True)
    difference = systematic_difference(model, [relative_difference(ours, own) for ours, own in pairs])
    if not difference < allowed:
        raise UserError(
            f"{model.config.model_type} models cannot be packed: their logits differ by {difference:.2g}",
            "base",
            SUPPORTED,
        )


def label_logits(model: Any, packed: PackedBatch) -> torch.Tensor:
    """Return the logits [rows × predictors, vocabulary] of the tokens that predict a label."""
    logits: torch.Tensor = model(
        input_ids=packed.ids,
        position_ids=packed.positions,
        logits_to_keep=packed.predictors,
        use_cache=False,
        packed=packed,
    ).logits
    return logits.flatten(0, 1)


def _contiguous(x: torch.Tensor) -> torch.Tensor:
    """Return a copy without gaps between rows. Matrix products with a slice are slower."""
    return x.reshape(-1, x.shape[-1]).view(x.shape)


def _trim_last_layer(model: Any) -> list[Any]:
    """Compute the feed-forward part of the last layer for predictors alone. Nothing reads other tokens.

    Returns:
        The hooks that do it; none for models without a plain `layers[-1].mlp`.
    """
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
