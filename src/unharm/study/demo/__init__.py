"""The toy world: small texts of our own and a tiny base, so that a study runs on any machine."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def demo_folder() -> Path:
    """Return the folder of the embedded study."""
    return Path(str(resources.files("unharm"))) / "study" / "demo"


def data_folder() -> Path:
    """Return the folder of the toy data."""
    return demo_folder() / "data"
