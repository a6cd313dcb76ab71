"""Helpers for transformers models, independent of any study."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unharm.core.errors import UserError

NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""What errors of torch say when memory ran out, beside those of a type of their own. The last is how
cuBLAS, cuDNN and cuSOLVER report that they got no workspace."""


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end a text.

    These are the tokenizer's, and those of the model's generation settings: chat models end a turn with
    another token.
    """
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = configured if isinstance(configured, list) else [configured]
    return frozenset(t for t in [tokenizer.eos_token_id, *more] if t is not None)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch means that memory ran out."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in NO_MEMORY)


@contextmanager
def unplanned_attention() -> Iterator[None]:
    """Do not use cuDNN's attention inside the context.

    It makes a plan for every new shape, which takes longer than the attention itself: packed batches and
    growing texts have a new shape in nearly every pass.
    """
    import torch

    before = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def replace_module(model: Any, name: str, module: Any) -> None:
    """Replace the module of a name in the model."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


KNOWN_ARGUMENTS = ("position_ids", "dropout", "use_cache", "is_causal")
"""Arguments that a model may pass to our attention functions without effect on the result. Any other
argument that is set would be silently ignored, so it is an error.
"""


def check_arguments(module: Any, others: dict[str, Any], who: str, todo: str) -> None:
    """Check that a model passes only known arguments to its attention.

    Args:
        module: The attention module.
        others: Keyword arguments that the attention function does not handle.
        who: Name of the caller, for messages.
        todo: What the user can do instead.

    Raises:
        UserError: An unknown argument is set.
    """
    unknown = sorted(
        n for n, v in others.items() if n not in KNOWN_ARGUMENTS and v is not None and v is not False
    )
    if unknown:
        names = ", ".join(unknown)
        text = f"the attention of {type(module).__name__} uses {names}, which {who} does not know"
        raise UserError(text, "base", todo)


def quiet_libraries() -> None:
    """Silence progress bars, advice and telemetry of libraries."""
    import warnings

    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity_error()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated.*")
