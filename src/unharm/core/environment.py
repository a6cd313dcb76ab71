"""Environment variables that libraries read once, before their first work."""

from __future__ import annotations

import os

DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE", "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Variables that are set unless the user has set them.

Waiting threads sleep instead of spinning: with other work on the machine, spinning threads take the
processors from those that they wait for. Memory of an accelerator grows in segments: batches of ever new
shapes would leave gaps that nothing fits into.
"""
OLD_NAMES = {"PYTORCH_ALLOC_CONF": "PYTORCH_CUDA_ALLOC_CONF"}
"""Earlier names of the same variables."""


def missing_defaults() -> dict[str, str]:
    """Return the variables that the user has not set."""
    return {
        name: value
        for name, value in DEFAULTS.items()
        if name not in os.environ and OLD_NAMES.get(name, name) not in os.environ
    }
