"""What is recorded of an item that failed: a file of details in the run folder, and one line to read."""

from __future__ import annotations

from unharm.core.progress import say
from unharm.executors.chunks import Fault
from unharm.runs.context import Run


def record_fault(run: Run, stage: str, name: str, fault: Fault) -> str:
    """Write what is known of a fault into failed/details/ and return the line that tells of it."""
    path = f"failed/details/{stage}-{name.replace('/', '-')}.txt"
    run.store.write_plain(path, f"{name}\n{fault.what}\n\n{fault.details}\n")
    say(f"{stage}: {name} failed: {fault.what}; details in {path}; the same command tries it again")
    return f"{name}: {fault.what}"
