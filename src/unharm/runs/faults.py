"""Records of failed items: a file with details in the run folder, and one line for the user."""

from __future__ import annotations

from unharm.core.progress import say
from unharm.executors.chunks import Fault
from unharm.runs.context import Run


def record_fault(run: Run, stage: str, name: str, fault: Fault) -> str:
    """Write a fault to failed/details/ and return a line that reports it."""
    path = f"failed/details/{stage}-{name.replace('/', '-')}.txt"
    run.store.write_plain(path, f"{name}\n{fault.summary}\n\n{fault.details}\n")
    say(f"{stage}: {name} failed: {fault.summary}; details in {path}; run the same command to try again")
    return f"{name}: {fault.summary}"
