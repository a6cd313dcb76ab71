"""The command line in this process."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from unharm.cli.app import app


def unharm(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))
