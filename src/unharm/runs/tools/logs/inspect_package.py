"""inspect_ai, which is an extra: loaded when a log is read or written."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from unharm.core.errors import UserError

INSTALL = "pip install 'unharm[inspect]'"


def needed(module: str, where: str) -> ModuleType:
    """Return a module of inspect_ai. Raise `UserError` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise UserError("logs of inspect_ai need the package inspect_ai", where, INSTALL) from None
