"""Bases in GGUF files: dequantised once into a folder that transformers loads like any other."""

from __future__ import annotations

import os
import shutil
import uuid
from importlib.util import find_spec
from pathlib import Path

from unharm.core.errors import UserError
from unharm.core.files.disk import cache_folder
from unharm.core.hashing import content_hash, sha256_of
from unharm.core.progress import say

VERSION = 1
"""Raise it when the same file is dequantised to other weights."""


def gguf_key(file: Path) -> str:
    """Return the content key of the base in a GGUF file."""
    return content_hash(["gguf", VERSION, sha256_of(file)])


def gguf_has_chat_template(file: Path) -> bool:
    """Return whether a GGUF file has a chat template, as far as this machine can read it."""
    if find_spec("gguf") is None or not file.is_file():
        return False
    from gguf import GGUFReader

    try:
        return "tokenizer.chat_template" in GGUFReader(file).fields
    except Exception:  # a broken file raises whatever its parts are read with; it is told when it is loaded
        return False


def dequantised(file: Path) -> Path:
    """Return the folder with the float32 weights and the tokenizer of a GGUF file.

    The first use writes the folder into the user's cache, completely or not at all.

    Raises:
        UserError: The package gguf is missing, or the file cannot be read as a language model.
    """
    folder = cache_folder() / f"gguf-{gguf_key(file)[:16]}"
    if (folder / "config.json").is_file():
        return folder
    if find_spec("gguf") is None:
        raise UserError("a GGUF base needs the package gguf", str(file), "pip install 'unharm[gguf]'")
    say(f"{file.name}: dequantising the weights (once; later runs reuse them)")
    temporary = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    try:
        _convert(file, temporary)
        os.replace(temporary, folder)
    except OSError as error:
        if not (folder / "config.json").is_file():  # otherwise another process finished first
            raise UserError(f"cannot write the dequantised base: {error}", str(folder)) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert(file: Path, out: Path) -> None:
    """Write weights, configuration and tokenizer of a GGUF file to a new folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # readers of GGUF raise many types of errors
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"this GGUF file is no language model that can be loaded: {reason}", str(file)
        ) from None
    # transformers refuses to save a model that it read from GGUF, so a new model takes its tensors
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = loaded.generation_config
    out.mkdir(parents=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
