"""The files of a scorer's model: what is known of them before the weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError


def model_key(model: str, revision: str | None) -> str:
    """Return what identifies the weights of a model: a hash of its files, or hub id and commit."""
    from unharm.core.models.base_files import folder_key

    path = Path(model).expanduser()
    return folder_key(path) if path.is_dir() else f"{model}@{revision}"


def read_config(model: str, revision: str | None, role: str, where: str) -> Any:
    """Return the configuration of a model.

    Args:
        model: A folder or a hub id.
        revision: The commit of a hub id.
        role: What the model is, for messages.
        where: The scorer in the study, for messages.

    Raises:
        UserError: It cannot be read.
    """
    from transformers import AutoConfig

    with _readable(model, role, where):
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)


def read_tokenizer(model: str, revision: str | None, role: str, where: str) -> Any:
    """Return the tokenizer of a model. Arguments and errors are those of `read_config`."""
    from transformers import AutoTokenizer

    with _readable(model, role, where):
        return AutoTokenizer.from_pretrained(model, revision=revision)


@contextmanager
def _readable(model: str, role: str, where: str) -> Iterator[None]:
    """Name a model whose files cannot be read."""
    from unharm.core.models.transformers import quiet_libraries

    quiet_libraries()
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"the {role} {model!r} cannot be read ({type(error).__name__})",
            f"{where}.model",
            "give a folder with config.json and safetensors, or a hub id that you can reach",
        ) from None
