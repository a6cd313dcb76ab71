"""The run folder: content keys, atomic writes, resume.

Every artefact has a path and a content key: a hash of its stage, the stage's version, its parameters
and the keys of its inputs. The artefact is written under a temporary name, synced and renamed. Then a
marker with its key and checksum is written the same way. An artefact is done if its marker holds the
same key and its bytes match the checksum. Otherwise it is made again. Only the store writes into a run
folder; it hands out the paths of the few files that libraries write themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from unharm.core.errors import UserError
from unharm.core.files.disk import (
    PRIVATE_FOLDER,
    Parts,
    append_line,
    link_or_copy,
    make_private,
    sync,
    telling_of_disk,
    write_synced,
)
from unharm.core.hashing import content_hash, sha256_of
from unharm.core.secrets import redact, redact_bytes
from unharm.store.locks import folder_lock, lease
from unharm.store.object_storage import Remote, as_url
from unharm.store.ownership import (
    MARKER,
    check_folder,
    check_remote,
    first_missing,
    forget_start,
    mark,
    marker_text,
)
from unharm.store.tables import csv_bytes, parquet_bytes, read_csv

if TYPE_CHECKING:
    import polars as pl

MARKERS, PARTS, PROBE = ".done", ".parts", ".seen"
CHECK = "check"
"""The field of a marker with the hash of all others: a damaged marker marks nothing."""
BINARY = (".parquet", ".safetensors")
"""Files whose bytes are no text: keys are taken out of a table before it is packed."""
JOURNAL_EVERY = 5.0
"""Seconds between two uploads of a journal to object storage."""


@dataclass(frozen=True)
class Artefact:
    """A file or folder that a stage makes.

    Attributes:
        path: Its path in the run folder, with `/`.
        key: Its content key.
        details: Further fields of its marker.
    """

    path: str
    key: str
    details: dict[str, Any] = field(default_factory=dict, compare=False)


class NotDone(Exception):
    """Raised when a requested artefact is not made yet."""

    def __init__(self, artefact: Artefact):
        super().__init__(artefact.path)
        self.artefact = artefact


def _read_marker(path: Path) -> dict[str, Any]:
    """Return the fields of a marker.

    Raises:
        OSError, ValueError, TypeError, RecursionError: There is none, or it is damaged.
    """
    marker: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    check = marker.pop(CHECK, None)  # runs of earlier versions have none
    if check is not None and check != content_hash(marker):
        raise ValueError("a damaged marker")
    return marker


class Store:
    """One run folder, or the local mirror of a run on object storage. Hold `lock` while writing."""

    def __init__(self, root: Path, remote: Remote | None = None):
        self.root, self.remote = root, remote
        self._checked: dict[str, str] = {}
        self._uploaded: dict[str, float] = {}

    @classmethod
    def open(cls, place: str | Path) -> Store:
        """Return the store of a folder or fsspec URL. Raise `UserError` if the URL cannot be used."""
        url = as_url(str(place))
        remote = Remote(url) if url else None
        return cls(remote.mirror if remote else Path(place), remote)

    @property
    def location(self) -> str:
        """The absolute folder or URL of the run, as other processes can open it."""
        return self.remote.url if self.remote else str(self.root.absolute())

    def __str__(self) -> str:
        return self.remote.url if self.remote else str(self.root)

    @property
    def answers_file(self) -> Path:
        """The SQLite file in which services' answers are stored; SQLite itself writes it."""
        return self.root / "answers.sqlite"

    @property
    def tracker_folder(self) -> Path:
        """The folder that experiment trackers write into."""
        return self.root / "trackers"

    def refresh(self, *under: str) -> None:
        """Update the markers of these folders (or of all) to what other processes have finished."""
        if self.remote:
            for folder in under or ("",):
                self.remote.pull(f"{MARKERS}/{folder}".rstrip("/"), self.root)

    def pull(self, *under: str) -> None:
        """Fetch all files of these folders to this machine."""
        if self.remote:
            for folder in under:
                self.remote.pull(folder, self.root)

    # ---- state -------------------------------------------------------------------------

    def marker(self, artefact: Artefact) -> dict[str, Any] | None:
        """Return the marker of a finished artefact, or None if it must be made (again).

        A file that does not match its checksum is moved to `damaged/`.
        """
        path = self.root / MARKERS / f"{artefact.path}.json"
        try:
            marker = _read_marker(path)
            same_key = marker["key"] == artefact.key
            target = self._inside(marker["path"])
            checksum = str(marker["sha256"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if not same_key or not (target.exists() or self.remote):
            return None
        if target.exists() and self._checked.get(marker["path"]) != checksum:
            if sha256_of(target) == checksum:
                self._checked[marker["path"]] = checksum
            elif self.remote:  # another machine has made a new version: fetch it when needed
                shutil.rmtree(target) if target.is_dir() else target.unlink()
            else:
                self._set_aside(target)
                return None
        return dict(marker)

    def _inside(self, path: str) -> Path:
        """Return the place of a path that a marker names. Raise `ValueError` if it leads out of the run:
        a marker may be somebody else's, and what it names is moved where its checksum is wrong."""
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise ValueError("a path that leads out of the run folder")
        return self.root / parts

    def done(self, artefact: Artefact) -> bool:
        """Return whether an artefact is finished and undamaged."""
        return self.marker(artefact) is not None

    def locate(self, artefact: Artefact) -> Path:
        """Return the path of a finished artefact.

        Raises:
            NotDone: It is not made yet.
            UserError: It is damaged on object storage.
        """
        marker = self.marker(artefact)
        if marker is None:
            raise NotDone(artefact)
        target = self.root / str(marker["path"])
        if self.remote and not target.exists():
            self._fetch(self.remote, artefact, marker, target)
        return target

    def _fetch(self, remote: Remote, artefact: Artefact, marker: dict[str, Any], target: Path) -> None:
        """Fetch an artefact from object storage. A damaged one is moved to `damaged/`."""
        path = str(marker["path"])
        exists = remote.fetch(path, self.root)
        if not exists or sha256_of(target) != marker["sha256"]:
            for name in remote.listing(path):
                remote.move(name, f"damaged/{uuid.uuid4().hex[:8]}-{Path(name).name}")
            self.remove(artefact)
            shutil.rmtree(target, ignore_errors=True)
            message = "this file was damaged and is now in damaged/" if exists else "this file is missing"
            raise UserError(message, f"{remote.url}/{path}", "run the same command again to make it")
        self._checked[path] = str(marker["sha256"])

    def artefacts(self, under: str) -> list[Artefact]:
        """Return all artefacts with a marker in the folder `under`, with the marker's fields.

        Their files are not checked.
        """
        artefacts = []
        root = self.root / MARKERS
        for path in sorted((root / under).rglob("*.json")):
            try:
                marker = _read_marker(path)
                name = path.relative_to(root).as_posix().removesuffix(".json")
                artefacts.append(Artefact(name, str(marker["key"]), marker))
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
        return artefacts

    def remove(self, artefact: Artefact) -> None:
        """Delete an artefact: its marker first, then its file."""
        for path in (f"{MARKERS}/{artefact.path}.json", artefact.path):
            if self.remote:
                self.remote.remove(path)
            (self.root / path).unlink(missing_ok=True)

    def scan(self, artefact: Artefact) -> pl.LazyFrame:
        """Open a finished Parquet table lazily. Raise `NotDone` if it is not made yet."""
        import polars as pl

        return pl.scan_parquet(self.locate(artefact))

    def read_table(self, path: str, schema: dict[str, Any] | None = None) -> pl.DataFrame:
        """Read a CSV table of the run with its texts as they were before `put_table`.

        Args:
            path: Its path in the run folder.
            schema: Its columns; None to take them from the file.

        Raises:
            OSError: It does not exist.
            polars.exceptions.PolarsError: It has other columns.
        """
        return read_csv(self.root / path, schema)

    def _set_aside(self, target: Path) -> None:
        """Move a damaged file to `damaged/`."""
        aside = self.root / "damaged" / f"{uuid.uuid4().hex[:8]}-{target.name}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(target, aside)

    # ---- writing -----------------------------------------------------------------------

    def put_bytes(self, artefact: Artefact, data: bytes, **details: Any) -> Path:
        """Write an artefact atomically, then its marker with `details`, and return its path."""
        with self._telling_of_disk():
            data = data if artefact.path.endswith(BINARY) else redact_bytes(data)
            self._replace(artefact.path, data)
            self._mark(artefact, artefact.path, hashlib.sha256(data).hexdigest(), details)
            return self.root / artefact.path

    def put_text(self, artefact: Artefact, text: str) -> Path:
        """Write a text artefact in UTF-8; see `put_bytes`."""
        return self.put_bytes(artefact, text.encode("utf-8"))

    def put_table(self, artefact: Artefact, frame: pl.DataFrame, **details: Any) -> Path:
        """Write a table: CSV if the path ends in `.csv`, else Parquet (zstd). See `put_bytes`."""
        packed = csv_bytes if artefact.path.endswith(".csv") else parquet_bytes
        return self.put_bytes(artefact, packed(frame), **details)

    def put_folder(self, artefact: Artefact, make: Callable[[Path], dict[str, Any]], under: str) -> Path:
        """Write a folder artefact as `under/<content hash>` and return its path.

        Args:
            artefact: Its name and key, stored in the marker.
            make: Fills the folder and returns further fields of the marker.
            under: The parent folder in the run.
        """
        with self._telling_of_disk():
            temporary = self._temporary()
            temporary.mkdir()
            details = make(temporary)
            make_private(temporary)
            for file in temporary.rglob("*"):
                if file.is_file():
                    sync(file)
            checksum = sha256_of(temporary)
            target = f"{under}/{checksum[:20]}"
            final = self.root / target
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                if sha256_of(final) == checksum:
                    shutil.rmtree(temporary)
                else:
                    self._set_aside(final)
            if temporary.exists():
                os.replace(temporary, final)
            sync(final.parent)
            self._upload(final)
            self._mark(artefact, target, checksum, details)
            return final

    def adopt(self, other: Store, artefact: Artefact) -> None:
        """Copy a finished folder from another run, with hard links if possible.

        Raises:
            NotDone: The other run has not made it.
        """
        source = other.locate(artefact)
        marker = other.marker(artefact) or {}
        final = self.root / str(marker["path"])
        with self._telling_of_disk():
            if not final.exists():
                temporary = self._temporary()
                shutil.copytree(source, temporary, copy_function=link_or_copy)
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary, final)
            self._upload(final)
            fixed = {k: marker.pop(k) for k in ("key", "path", "sha256", "written")}
            self._mark(artefact, str(fixed["path"]), str(fixed["sha256"]), marker)

    def _mark(self, artefact: Artefact, path: str, checksum: str, details: dict[str, Any]) -> None:
        """Write the marker of an artefact."""
        marker = {
            "key": artefact.key,
            "path": path,
            "sha256": checksum,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **artefact.details,
            **details,
        }
        marker = json.loads(redact(json.dumps(marker)))
        text = json.dumps(marker | {CHECK: content_hash(marker)}, indent=1)
        self._replace(f"{MARKERS}/{artefact.path}.json", text.encode())
        self._checked[path] = checksum

    def _replace(self, path: str, data: bytes) -> None:
        """Write a file atomically, and upload it for a run on object storage."""
        temporary = self._temporary()
        write_synced(temporary, data)
        final = self.root / path
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, final)
        sync(final.parent)
        if self.remote:
            self.remote.write(path, data)

    def _upload(self, folder: Path) -> None:
        """Upload all files of a folder, for a run on object storage."""
        for file in folder.rglob("*") if self.remote else ():
            if file.is_file() and self.remote:
                self.remote.put(file.relative_to(self.root).as_posix(), file)

    def write_plain(self, path: str, text: str) -> None:
        """Write a file without key and marker atomically."""
        with self._telling_of_disk():
            self._replace(path, redact(text).encode("utf-8"))

    def append_line(self, path: str, line: str) -> None:
        """Append a line to a journal and sync it. Upload the journal every `JOURNAL_EVERY` seconds."""
        with self._telling_of_disk():
            append_line(self.root / path, redact(line).encode())
            if self.remote and time.monotonic() - self._uploaded.get(path, -JOURNAL_EVERY) >= JOURNAL_EVERY:
                self._uploaded[path] = time.monotonic()
                self.remote.put(path, self.root / path)

    @contextmanager
    def probe(self) -> Iterator[Path | None]:
        """Create a small file in the run folder to test that other machines see it.

        Yields None for a run on object storage. The file is removed afterwards, and the folder too if it
        is empty.
        """
        if self.remote:
            yield None
            return
        self.write_plain(PROBE, f"{time.time_ns()}")
        try:
            yield (self.root / PROBE).absolute()
        finally:
            with contextlib.suppress(OSError):
                (self.root / PROBE).unlink()
                (self.root / ".tmp").rmdir()
                self.root.rmdir()

    def parts(self, artefact: Artefact) -> Parts:
        """Return the stored rows of an unfinished table. They stay on this machine."""
        return Parts(self.root / PARTS / f"{artefact.path}.{artefact.key[:12]}.jsonl")

    def read_plain(self, path: str) -> str | None:
        """Return the text of a file, or None if it does not exist. Bytes that are no text are replaced."""
        if self.remote:
            data = self.remote.read(path)
            return None if data is None else data.decode("utf-8", "replace")
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def _temporary(self) -> Path:
        """Return a new path for a temporary file or folder."""
        folder = self.root / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def _telling_of_disk(self) -> AbstractContextManager[None]:
        """Turn disk errors into messages for the user."""
        return telling_of_disk(self.root)

    # ---- one process at a time ---------------------------------------------------------

    def check_owner(self, study: str) -> bool:
        """Return whether the place of the run is new. Raise `UserError` where it is not this study's."""
        if self.remote:
            return check_remote(self.remote, study)
        return check_folder(self.root, study)

    def claim(self, study: str) -> None:
        """Mark the place of the run as this study's, before files of another run are adopted into it.

        Raises:
            UserError: It is not this study's.
        """
        new = self.check_owner(study)
        if self.remote is not None:
            if new:
                self.remote.write(MARKER, marker_text(study).encode())
            return
        with self._telling_of_disk():
            self.root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            mark(self.root, study)

    def tidy(self) -> None:
        """Remove what an unfinished run needs: checkpoints, rows of unfinished tables, empty folders."""
        for artefact in self.artefacts("checkpoints"):
            self.remove(artefact)
        for file in (self.root / "checkpoints").rglob("*"):  # what lies beside them without a marker
            if file.is_file():
                self.remove(Artefact(file.relative_to(self.root).as_posix(), ""))
        for name in (".tmp", PARTS):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for folder in sorted((p for p in self.root.rglob("*") if p.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()

    @contextmanager
    def lock(self, study: str = "") -> Iterator[None]:
        """Lock the run folder, and its object storage if it is there.

        A new folder gets a marker with the name of the study. If a mistake of the user ends the run before
        anything is made in it, the folder is removed again.

        Args:
            study: The name of the study that works in it; empty for work on an existing run.

        Raises:
            UserError: Another process holds the lock, or the folder is not this study's.
        """
        new = self.check_owner(study)
        made = first_missing(self.root)
        with self._telling_of_disk():
            self.root.parent.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        with folder_lock(self.root):
            if self.remote is None:
                new = self.check_owner(study)
                mark(self.root, study)
            shutil.rmtree(self.root / ".tmp", ignore_errors=True)
            try:
                with self._lease(study):
                    yield
            except UserError:
                if new and self.remote is None:
                    forget_start(self.root, made)
                raise
            finally:
                with contextlib.suppress(OSError):  # not empty, or gone
                    (self.root / ".tmp").rmdir()

    @contextmanager
    def _lease(self, study: str) -> Iterator[None]:
        """Hold the place of the run on object storage, where it is there."""
        if self.remote is None:
            yield
            return
        with lease(self.remote):
            if self.check_owner(study) and study:
                self.remote.write(MARKER, marker_text(study).encode())
            self.refresh()
            yield
            for journal in self.root.glob("journal*.jsonl"):
                self.remote.put(journal.name, journal)
