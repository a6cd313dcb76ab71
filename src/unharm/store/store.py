"""The run folder: content keys, atomic writes, resume.

Every artefact has a path and a content key: a hash of its stage, the stage's version, its
parameters and its inputs' keys. It is written under a temporary name, synced and renamed;
then a marker with its key and checksum is written the same way. An artefact is done exactly
when its marker holds the same key and its bytes have the checksum; anything else is redone.
Only this module touches the files of a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm.core.errors import UserError
from unharm.core.files.disk import Parts, append_line, link_or_copy, sync, telling_of_disk, write_synced
from unharm.core.hashing import sha256_of
from unharm.store.locks import folder_lock, lease
from unharm.store.object_storage import Remote, as_url

if TYPE_CHECKING:
    import polars as pl

MARKERS, PARTS, PROBE = ".done", ".parts", ".seen"
JOURNAL_EVERY = 5.0
"""Seconds between two puts of a journal to object storage."""


@dataclass(frozen=True)
class Artefact:
    """Something that a stage makes: where it goes (relative, with `/`) and its content key."""

    path: str
    key: str
    about: dict[str, Any] = field(default_factory=dict, compare=False)


class NotDone(Exception):
    """An artefact that was asked for is not made yet."""

    def __init__(self, artefact: Artefact):
        super().__init__(artefact.path)
        self.artefact = artefact


class Store:
    """One run folder; on object storage its mirror here. Use `lock` around anything that writes."""

    def __init__(self, root: Path, remote: Remote | None = None):
        self.root, self.remote = root, remote
        self._checked: dict[str, str] = {}
        self._told: dict[str, float] = {}

    @classmethod
    def at(cls, place: str | Path) -> Store:
        """The run at a place: a folder, or an fsspec URL. Raises `UserError` where a URL cannot be used."""
        url = as_url(str(place))
        remote = Remote(url) if url else None
        return cls(remote.mirror if remote else Path(place), remote)

    @property
    def location(self) -> str:
        """Where the run is, for other processes."""
        return self.remote.url if self.remote else str(self.root.absolute())

    def __str__(self) -> str:
        return self.remote.url if self.remote else str(self.root)

    def refresh(self, *under: str) -> None:
        """Sees what other processes have marked as done in these folders, or in all."""
        if self.remote:
            for folder in under or ("",):
                self.remote.pull(f"{MARKERS}/{folder}".rstrip("/"), self.root)

    def pull(self, *under: str) -> None:
        """Has everything in these folders on this machine."""
        if self.remote:
            for folder in under:
                self.remote.pull(folder, self.root)

    # ---- state -------------------------------------------------------------------------

    def marker(self, artefact: Artefact) -> dict[str, Any] | None:
        """The marker of a finished artefact, or None where it has to be made (again).

        A file that does not have its checksum any more is set aside into `damaged/`.
        """
        path = self.root / MARKERS / f"{artefact.path}.json"
        try:
            marker = json.loads(path.read_text(encoding="utf-8"))
            right = marker["key"] == artefact.key
            target = self.root / marker["path"]
            checksum = str(marker["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not right or not (target.exists() or self.remote):
            return None
        if target.exists() and self._checked.get(marker["path"]) != checksum:
            if sha256_of(target) == checksum:
                self._checked[marker["path"]] = checksum
            elif self.remote:  # another machine has made it anew: it is fetched when it is needed
                shutil.rmtree(target) if target.is_dir() else target.unlink()
            else:
                self._set_aside(target)
                return None
        return dict(marker)

    def done(self, artefact: Artefact) -> bool:
        return self.marker(artefact) is not None

    def locate(self, artefact: Artefact) -> Path:
        """Where a finished artefact lies. Raises `NotDone` where it is not made yet, `UserError` where
        it is damaged on object storage."""
        marker = self.marker(artefact)
        if marker is None:
            raise NotDone(artefact)
        target = self.root / str(marker["path"])
        if self.remote and not target.exists():
            self._fetch(self.remote, artefact, marker, target)
        return target

    def _fetch(self, remote: Remote, artefact: Artefact, marker: dict[str, Any], target: Path) -> None:
        """Brings an artefact from object storage; one that is damaged there is set aside."""
        path = str(marker["path"])
        found = remote.fetch(path, self.root)
        if not found or sha256_of(target) != marker["sha256"]:
            for name in remote.listing(path):
                remote.move(name, f"damaged/{uuid.uuid4().hex[:8]}-{Path(name).name}")
            self.remove(artefact)
            shutil.rmtree(target, ignore_errors=True)
            what = "this file was damaged, and is set aside" if found else "this file is gone"
            raise UserError(what, f"{remote.url}/{path}", "the same command makes it again")
        self._checked[path] = str(marker["sha256"])

    def artefacts(self, under: str) -> list[Artefact]:
        """What has a marker in the folder `under`, whole or not, with all that its marker says."""
        found = []
        root = self.root / MARKERS
        for path in sorted((root / under).rglob("*.json")):
            try:
                marker = json.loads(path.read_text(encoding="utf-8"))
                name = path.relative_to(root).as_posix().removesuffix(".json")
                found.append(Artefact(name, str(marker["key"]), marker))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def remove(self, artefact: Artefact) -> None:
        """Forgets an artefact that is not needed any more: its marker first, then its file."""
        for path in (f"{MARKERS}/{artefact.path}.json", artefact.path):
            if self.remote:
                self.remote.remove(path)
            (self.root / path).unlink(missing_ok=True)

    def scan(self, artefact: Artefact) -> pl.LazyFrame:
        """A finished table, read lazily."""
        import polars as pl

        path = self.locate(artefact)
        return pl.scan_csv(path) if path.suffix == ".csv" else pl.scan_parquet(path)

    def _set_aside(self, target: Path) -> None:
        aside = self.root / "damaged" / f"{uuid.uuid4().hex[:8]}-{target.name}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(target, aside)

    # ---- writing -----------------------------------------------------------------------

    def put_bytes(self, artefact: Artefact, data: bytes, **about: Any) -> Path:
        with self._telling_of_disk():
            self._replace(artefact.path, data)
            self._mark(artefact, artefact.path, hashlib.sha256(data).hexdigest(), about)
            return self.root / artefact.path

    def put_text(self, artefact: Artefact, text: str) -> Path:
        return self.put_bytes(artefact, text.encode("utf-8"))

    def put_table(self, artefact: Artefact, frame: pl.DataFrame, **about: Any) -> Path:
        """Parquet (zstd), or CSV where the path ends so; `about` goes into the marker."""
        if artefact.path.endswith(".csv"):
            return self.put_bytes(artefact, frame.write_csv().encode(), **about)
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        return self.put_bytes(artefact, buffer.getvalue(), **about)

    def put_folder(self, artefact: Artefact, make: Callable[[Path], dict[str, Any]], under: str) -> Path:
        """A folder that `make` fills, kept as `under/<content hash>`; the marker keeps the name.

        What `make` returns goes into the marker.
        """
        with self._telling_of_disk():
            temporary = self._temporary()
            temporary.mkdir()
            about = make(temporary)
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
            self._mark(artefact, target, checksum, about)
            return final

    def adopt(self, other: Store, artefact: Artefact) -> None:
        """Takes a finished folder of another run, by hard links where there are any. Raises `NotDone`
        where the other run has not made it."""
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
            known = {k: marker.pop(k) for k in ("key", "path", "sha256", "written")}
            self._mark(artefact, str(known["path"]), str(known["sha256"]), marker)

    def _mark(self, artefact: Artefact, path: str, checksum: str, about: dict[str, Any]) -> None:
        marker = {
            "key": artefact.key,
            "path": path,
            "sha256": checksum,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **artefact.about,
            **about,
        }
        self._replace(f"{MARKERS}/{artefact.path}.json", json.dumps(marker, indent=1).encode())
        self._checked[path] = checksum

    def _replace(self, path: str, data: bytes) -> None:
        temporary = self._temporary()
        write_synced(temporary, data)
        final = self.root / path
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, final)
        sync(final.parent)
        if self.remote:
            self.remote.write(path, data)

    def _upload(self, folder: Path) -> None:
        """Puts all files of a folder to object storage, where the run is there."""
        for file in folder.rglob("*") if self.remote else ():
            if file.is_file() and self.remote:
                self.remote.put(file.relative_to(self.root).as_posix(), file)

    def write_plain(self, path: str, text: str) -> None:
        """A file without a key (manifest, resolved spec), replaced atomically."""
        with self._telling_of_disk():
            self._replace(path, text.encode("utf-8"))

    def append_line(self, path: str, line: str) -> None:
        """One more line of a journal, synced; on object storage the journal follows every few seconds."""
        with self._telling_of_disk():
            append_line(self.root / path, line.encode())
            if self.remote and time.monotonic() - self._told.get(path, -JOURNAL_EVERY) >= JOURNAL_EVERY:
                self._told[path] = time.monotonic()
                self.remote.put(path, self.root / path)

    @contextmanager
    def probe(self) -> Iterator[Path | None]:
        """A new small file in the run folder, for other machines to look for; None on object storage. It is
        removed afterwards, and with it a folder that has nothing else in it."""
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
        """The rows of a table that is still being made; they stay on this machine."""
        return Parts(self.root / PARTS / f"{artefact.path}.{artefact.key[:12]}.jsonl")

    def read_plain(self, path: str) -> str | None:
        if self.remote:
            data = self.remote.read(path)
            return None if data is None else data.decode("utf-8")
        try:
            return (self.root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _temporary(self) -> Path:
        folder = self.root / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def _telling_of_disk(self) -> AbstractContextManager[None]:
        return telling_of_disk(self.root)

    # ---- one process at a time ---------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run: its folder here, and its place on object storage where it is there. A second
        process gets a `UserError`."""
        with self._telling_of_disk():
            self.root.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.root):
            shutil.rmtree(self.root / ".tmp", ignore_errors=True)
            if self.remote is None:
                yield
                return
            with lease(self.remote):
                self.refresh()
                yield
                for journal in self.root.glob("journal*.jsonl"):
                    self.remote.put(journal.name, journal)
