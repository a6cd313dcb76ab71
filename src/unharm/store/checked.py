"""Files of a run with a fixed path and a stored checksum (manifest, study)."""

from __future__ import annotations

from unharm.core.progress import say
from unharm.store.store import MARKERS, Artefact, Store


def write_checked(store: Store, path: str, text: str) -> None:
    """Write a file atomically and store its checksum."""
    store.put_text(Artefact(path, ""), text)


def read_checked(store: Store, path: str) -> str | None:
    """Return the text that `write_checked` wrote, or None if there is no file.

    A file that does not match its checksum is moved to `damaged/` and counts as missing.
    """
    artefact = Artefact(path, "")
    marked = (store.root / MARKERS / f"{path}.json").exists()
    if (store.root / path).exists() and marked and not store.done(artefact):
        say(f"{path} was damaged and is now in damaged/; the next run writes it again")
        return None
    return store.read_plain(path)
