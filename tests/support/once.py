"""What a process of tests needs not do again and again: build the tree of verbs, wait for the disk."""

from __future__ import annotations

import os
from functools import cache

import typer.main
import typer.testing


def build_commands_once() -> None:
    """Let typer build the tree of verbs of an app once in a process instead of with every call."""
    if not hasattr(typer.main.get_command, "cache_info"):
        once = cache(typer.main.get_command)
        typer.main.get_command = once
        typer.testing._get_command = once  # type: ignore[attr-defined]


def skip_syncs() -> None:
    """Do not wait for the disk: a sync guards against a power cut, which no test makes.

    What is synced, and when, is tested in `tests/core/files/test_disk.py` and `tests/store/test_store.py`.
    """
    os.fsync = lambda fd: None
