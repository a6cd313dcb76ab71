"""Files of a run at fixed places (manifest, study) that keep their checksums, as tables and adapters do."""

from __future__ import annotations

from unharm.core.progress import say
from unharm.store.store import MARKERS, Artefact, Store


def write_checked(store: Store, path: str, text: str) -> None:
    """A file whose checksum is kept, replaced atomically."""
    store.put_text(Artefact(path, ""), text)


def read_checked(store: Store, path: str) -> str | None:
    """What `write_checked` wrote; None where there is none. One that lost its checksum is set aside."""
    artefact = Artefact(path, "")
    marked = (store.root / MARKERS / f"{path}.json").exists()
    if (store.root / path).exists() and marked and not store.done(artefact):
        say(f"{path} was damaged: it is set aside in damaged/, and written again by the next run")
        return None
    return store.read_plain(path)
