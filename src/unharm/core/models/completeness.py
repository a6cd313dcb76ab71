"""Whether the files of a model hold all tensors of its configuration, before any of them is read whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unharm.core.errors import Problem, UserError, raise_all

MANY_LAYERS = 1000
"""More layers than any model has; beyond it the files are counted before a model is laid out."""
NAMED = 3
"""Tensors of each kind that a message names; the others are counted."""


def check_tensors(path: Path, name: str, trust_remote_code: bool = False) -> Any:
    """Compare names and shapes in a model's files with those that its configuration asks for.

    The model is laid out without memory (on torch's meta device), so this takes a fraction of a second for
    any size. transformers would fill what is missing with random numbers.

    Args:
        path: The folder of the model.
        name: What the user calls it, for messages.
        trust_remote_code: Whether code in the folder may be run.

    Returns:
        The model, laid out without memory; None for a quantised one, which its own library lays out.

    Raises:
        UserError: A tensor is missing, has another shape, or belongs to no part of the model; or a file is
            cut, or cannot be read.
    """
    from transformers import AutoModelForCausalLM

    from unharm.core.models.transformers import quiet_libraries

    quiet_libraries()
    config = read_config(path)
    if "quantization_config" in config:  # laid out by its own library; checked when it is loaded
        return None
    _check_depth(config, path, name)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            device_map="meta",
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=trust_remote_code,
        )
    except Exception as error:  # configurations, index files and headers have errors of their own
        if "Unrecognized configuration class" in str(error):
            raise UserError(
                f"transformers has no language model for the type {config.get('model_type')!r} alone",
                name,
                "where it reads images too, take a base of its text part, or serve it",
            ) from None
        raise UserError(
            f"the base cannot be loaded as a language model: {first_line(error)}",
            name,
            "check config.json; fetch the files again where one is cut",
        ) from None
    check_loaded(info, name)
    return model


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a model; an empty one where it cannot be read."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _check_depth(config: dict[str, Any], path: Path, name: str) -> None:
    """Raise `UserError` where the configuration names more layers than the files have tensors: a model of
    a milliard layers would be laid out for days."""
    from safetensors import SafetensorError, safe_open

    layers = config.get("num_hidden_layers")
    if not isinstance(layers, int) or layers <= MANY_LAYERS:
        return
    tensors = 0
    for file in path.glob("*.safetensors"):
        try:
            with safe_open(file, framework="pt") as opened:
                tensors += len(opened.keys())
        except SafetensorError as error:
            raise UserError(
                f"{file.name} cannot be read: {first_line(error)}", name, "fetch it again"
            ) from None
    if tensors < layers:
        raise UserError(
            f"config.json names {layers:,} layers, and the files have {tensors:,} tensors",
            name,
            "the configuration and the files are not of the same model: fetch both again",
        )


def check_loaded(info: Any, name: str) -> None:
    """Raise `UserError` where the loading info of transformers tells of tensors that do not fit."""
    shapes = [
        f"{tensor} ({_shape(given)} in the file, {_shape(wanted)} in the model)"
        for tensor, given, wanted in sorted(info.get("mismatched_keys", ()), key=str)
    ]
    todo = (
        "the configuration and the files are not of the same model, or files are missing: fetch both again"
    )
    problems = [
        Problem(f"{len(tensors)} tensors {state}: {_named(tensors)}", name, todo)
        for state, tensors in (
            ("of the model are in no file", sorted(map(str, info.get("missing_keys", ())))),
            ("have another shape", shapes),
            ("belong to no part of the model", sorted(map(str, info.get("unexpected_keys", ())))),
        )
        if tensors
    ]
    raise_all(problems)


def check_links(path: Path, name: str, files: Iterable[str] = ("*",)) -> None:
    """Raise `UserError` where a link in a folder leads out of it.

    A folder that somebody else made could hand in any file of this machine. A snapshot in the hub's cache
    links to the files of its own repository, which is where it ends.
    """
    home = path.resolve()
    if home.parent.name == "snapshots" and home.parents[1].name.startswith("models--"):
        home = home.parents[1]
    for pattern in files:
        for file in sorted(path.rglob(pattern)):
            target = Path(os.path.realpath(file))
            if file.is_symlink() and not target.is_relative_to(home):
                raise UserError(
                    f"the link {file.relative_to(path)} leads out of this folder",
                    name,
                    "put a copy of the file in its place",
                )


def first_line(error: BaseException) -> str:
    """The first line of what an error of a library says, shortened."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _named(tensors: list[str]) -> str:
    more = len(tensors) - NAMED
    return ", ".join(tensors[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _shape(size: Any) -> str:
    return " × ".join(str(n) for n in size)
