"""What unharm needs of transformers models, whatever study they are used in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError
from unharm.core.hashing import content_hash, sha256_of

HASHED_FILES = (
    "config.json",
    "*.safetensors",
    "tokenizer*",
    "special_tokens_map.json",
    "*.model",
    "vocab*",
)


def folder_key(path: Path) -> str:
    """The content hash of a model's folder: weights, configuration, tokenizer."""
    files = sorted({file for part in HASHED_FILES for file in path.glob(part)})
    return content_hash([[file.name, sha256_of(file)] for file in files])


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's, and those of the model's generation settings
    (chat models end a turn with another one)."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = own if isinstance(own, list) else [own]
    return frozenset(t for t in [tokenizer.eos_token_id, *more] if t is not None)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that memory is short."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def replace_module(model: Any, name: str, module: Any) -> None:
    """Puts a module in the place of the one of that name."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


KNOWN_ARGUMENTS = ("position_ids", "dropout", "use_cache", "is_causal")
"""What a model may pass to an attention function of ours besides what that function names; anything else
that is set would be ignored in silence."""


def check_arguments(module: Any, others: dict[str, Any], who: str, todo: str) -> None:
    """Raises `UserError` where a model's attention is given what `who` does not know."""
    odd = sorted(
        n for n, v in others.items() if n not in KNOWN_ARGUMENTS and v is not None and v is not False
    )
    if odd:
        what = f"the attention of {type(module).__name__} uses {', '.join(odd)}, which {who} does not know"
        raise UserError(what, "base", todo)


def quiet_libraries() -> None:
    """No progress bars and advice of libraries between our own lines; no telemetry."""
    import warnings

    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    hub_logging.set_verbosity_error()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*deprecated.*")
