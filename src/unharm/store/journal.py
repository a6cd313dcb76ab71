"""The journals of a run: each process records when its tasks begin and end."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unharm.store.store import Artefact, Store


def journal_name(leading: bool) -> str:
    """Return the file name of this process's journal.

    A worker gets a random name, because host names and process ids are used again.
    """
    return "journal.jsonl" if leading else f"journal-{socket.gethostname()}-{uuid.uuid4().hex[:12]}.jsonl"


def add_event(store: Store, name: str, event: str, stage: str, artefact: Artefact, **details: Any) -> None:
    """Append an event to a journal."""
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": event,
        "stage": stage,
        "path": artefact.path,
        "key": artefact.key,
        **details,
    }
    store.append_line(name, json.dumps(line))


def events(store: Store) -> Iterator[dict[str, Any]]:
    """Yield the events of all journals of a run. Incomplete lines of a killed process are skipped."""
    for text in _texts(store):
        for line in text.splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and {"event", "stage", "path"} <= set(row):
                yield row


def _texts(store: Store) -> list[str]:
    """Return the content of every journal."""
    if store.remote:
        names = [n for n in store.remote.listing("") if n.startswith("journal") and "/" not in n]
        contents = [store.remote.read(name) for name in names]
        return [data.decode("utf-8", "replace") for data in contents if data]
    files = sorted(store.root.glob("journal*.jsonl"))
    return [f.read_text(encoding="utf-8", errors="replace") for f in files]
