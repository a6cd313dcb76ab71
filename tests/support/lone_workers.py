"""Work for workers without a run, as modules that worker processes can import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

from unharm.executors import chunks
from unharm.executors.chunks import Chunk, Meter


class NoContext:
    """What a worker opens in place of a run: a folder to leave notes in."""

    def __init__(self, folder: str):
        self.folder = Path(folder)


def start_a_child(context: NoContext, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Start a process that would outlive its parent, note its id, and go on for long."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note = context.folder / "child.new"
    note.write_text(str(child.pid))
    note.rename(context.folder / "child")
    time.sleep(600)
    return {}


def fail_once_with_the_device(context: NoContext, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Fail as after an illegal address on the device in the first worker; do the items in any other."""
    (context.folder / f"worker-{os.getpid()}").write_text(str(os.getpid()))
    if len(list(context.folder.glob("worker-*"))) == 1:
        mock.patch.object(
            chunks, "accelerator_dead", return_value=True
        ).start()  # this process has none to lose
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return {"items": len(chunk.items)}
