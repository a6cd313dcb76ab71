"""The journal of a run: every process that works on it notes when a task begins and when it is done."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unharm.store.store import Artefact, Store


def name_of(leading: bool) -> str:
    """The journal of this process: that of the process that leads the run, or one of its own, whose name
    nobody has had before (hosts and processes have theirs again)."""
    return "journal.jsonl" if leading else f"journal-{socket.gethostname()}-{uuid.uuid4().hex[:12]}.jsonl"


def note(store: Store, name: str, event: str, stage: str, artefact: Artefact, **more: Any) -> None:
    """One more line of a journal."""
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": event,
        "stage": stage,
        "path": artefact.path,
        "key": artefact.key,
        **more,
    }
    store.append_line(name, json.dumps(line))


def rows(store: Store) -> Iterator[dict[str, Any]]:
    """The lines of all journals of a run; those that a kill has cut are left out."""
    for text in _texts(store):
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and {"event", "stage", "path"} <= set(row):
                yield row


def _texts(store: Store) -> list[str]:
    if store.remote:
        names = [n for n in store.remote.listing("") if n.startswith("journal") and "/" not in n]
        found = [store.remote.read(name) for name in names]
        return [data.decode("utf-8", "replace") for data in found if data]
    files = sorted(store.root.glob("journal*.jsonl"))
    return [f.read_text(encoding="utf-8", errors="replace") for f in files]
