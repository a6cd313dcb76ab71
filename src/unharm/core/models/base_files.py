"""The files of a base: which are fetched, and what its content key counts."""

from __future__ import annotations

import json
from pathlib import Path

from unharm.core.hashing import content_hash, sha256_of

BASE_FILES = (
    "config.json",
    "generation_config.json",  # the tokens that end a turn
    "*.safetensors",
    "*.safetensors.index.json",  # which shard holds which tensor
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "vocab*",
    "merges.txt",
    "chat_template.jinja",
)
"""Patterns of the files that a base consists of. Its content key counts all of them."""

UNWANTED = ("*/*", "consolidated*")
"""Patterns of files that are not fetched: second copies of the weights, as in `original/`."""


def base_files(folder: Path) -> list[Path]:
    """Return the files of a base in a folder, sorted by name."""
    matches = {file for pattern in BASE_FILES for file in folder.glob(pattern)}
    return sorted(file for file in matches if not file.name.startswith("consolidated"))


def folder_key(folder: Path) -> str:
    """Return the content hash of a base: weights, configuration, tokenizer, chat template.

    A `generation_config.json` that transformers derived from `config.json` adds nothing, so it is not
    counted: saving a base again does not change its key.
    """
    files = [file for file in base_files(folder) if not _derived(file)]
    return content_hash([[file.name, sha256_of(file)] for file in files])


def weight_bytes(folder: Path) -> int:
    """Return the size of the weights in bytes."""
    return sum(f.stat().st_size for f in base_files(folder) if f.suffix == ".safetensors")


def has_chat_template(folder: Path) -> bool:
    """Return whether the tokenizer in a folder has a chat template."""
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def _derived(file: Path) -> bool:
    if file.name != "generation_config.json":
        return False
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(settings, dict) and settings.get("_from_model_config") is True
