"""The run manifest: versions, seeds, commit, hardware and all sessions of a run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from unharm.core.hashing import version_of
from unharm.core.version import __version__
from unharm.runs.base import Base
from unharm.store.checked import read_checked
from unharm.store.store import Store
from unharm.study.spec import Study

PACKAGES = (
    "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "scipy", "polars",
    "alt-profanity-check", "scikit-learn", "vaderSentiment", "openai",
)  # fmt: skip


def manifest(study: Study, base: Base, store: Store) -> dict[str, Any]:
    """Return the manifest of a run with a new session added to the earlier ones."""
    earlier: list[dict[str, Any]] = []
    with contextlib.suppress(ValueError, AttributeError):
        earlier = json.loads(read_checked(store, "manifest.json") or "{}").get("sessions", [])
    session = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "process": os.getpid(),
    }
    return {
        "study": study.name,
        "unharm": __version__,
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "seed": study.seed,
        "fidelity": study.fidelity,
        "base": {"name": base.name, "revision": base.revision, "key": base.key},
        "hardware": hardware(),
        "sessions": [*earlier, session],
    }


def hardware() -> dict[str, Any]:
    """Return the processor, cores, memory and accelerators of this machine."""
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _git_commit() -> str:
    """Return the commit of the checkout that unharm runs from, or an empty string if it is installed."""
    source = Path(__file__).resolve().parent
    try:
        result = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
