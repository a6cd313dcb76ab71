"""The run folder: content keys, atomic writes, resume.

Every artefact has a path and a content key: a hash of its stage, the stage's version, its
parameters and its inputs' keys. It is written under a temporary name, synced and renamed;
then a marker with its key and checksum is written the same way. An artefact is done exactly
when its marker holds the same key and its bytes have the checksum; anything else is redone.
Only this module touches the files of a run.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import socket
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm.disk import Parts, append_line, disk_error, link_or_copy, sync, write_synced
from unharm.errors import UserError

if TYPE_CHECKING:
    import polars as pl

MARKERS, PARTS = ".done", ".parts"


def content_hash(data: Any) -> str:
    """32 hex digits that depend on the content of plain data alone, not on its order of keys."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_key(stage: str, version: int, parameters: Mapping[str, Any], *inputs: str) -> str:
    """The key of an artefact from everything that it depends on."""
    return content_hash([stage, version, dict(parameters), list(inputs)])


def slug(name: str) -> str:
    """A name as one safe path component; different names give different components.

    Plain names stay as they are; any other is spelled in ASCII with a hash at its end.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) and len(name) <= 60:
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48] or "name"
    return f"{plain}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Artefact:
    """Something that a stage makes: where it goes (relative, with `/`) and its content key."""

    path: str
    key: str
    about: dict[str, Any] = field(default_factory=dict, compare=False)


def sha256_of(path: Path) -> str:
    """The checksum of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class Store:
    """One run folder. Use `lock` around anything that writes."""

    def __init__(self, root: Path):
        self.root = root
        self._checked: dict[str, str] = {}

    @property
    def location(self) -> str:
        """Where the run is, for people and for other processes."""
        return str(self.root.absolute())

    @property
    def is_local(self) -> bool:
        """Whether the run is in a folder, which other machines may see or not."""
        return True

    def refresh(self, *under: str) -> None:
        """Sees what other processes have written in these folders."""

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
        if not right or not target.exists():
            return None
        if self._checked.get(marker["path"]) != checksum:
            if sha256_of(target) != checksum:
                self._set_aside(target)
                return None
            self._checked[marker["path"]] = checksum
        return dict(marker)

    def done(self, artefact: Artefact) -> bool:
        return self.marker(artefact) is not None

    def locate(self, artefact: Artefact) -> Path:
        """Where a finished artefact lies. Raises `KeyError` where it is not done."""
        marker = self.marker(artefact)
        if marker is None:
            raise KeyError(artefact.path)
        return self.root / str(marker["path"])

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
        (self.root / MARKERS / f"{artefact.path}.json").unlink(missing_ok=True)
        (self.root / artefact.path).unlink(missing_ok=True)

    def scan(self, artefact: Artefact) -> pl.LazyFrame:
        """A finished table, read lazily."""
        import polars as pl

        path = self.locate(artefact)
        return pl.scan_csv(path) if path.suffix == ".csv" else pl.scan_parquet(path)

    def _set_aside(self, target: Path) -> None:
        aside = self.root / "damaged" / f"{uuid.uuid4().hex[:8]}-{target.name}"
        aside.parent.mkdir(exist_ok=True)
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
            self._mark(artefact, target, checksum, about)
            return final

    def adopt(self, other: Store, artefact: Artefact) -> None:
        """Takes a finished folder of another run, by hard links where there are any; `KeyError` without."""
        source = other.locate(artefact)
        marker = other.marker(artefact) or {}
        final = self.root / str(marker["path"])
        with self._telling_of_disk():
            if not final.exists():
                temporary = self._temporary()
                shutil.copytree(source, temporary, copy_function=link_or_copy)
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(temporary, final)
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

    def write_plain(self, path: str, text: str) -> None:
        """A file without a key (manifest, resolved spec), replaced atomically."""
        with self._telling_of_disk():
            self._replace(path, text.encode("utf-8"))

    def append_line(self, path: str, line: str) -> None:
        """One more line of a journal, synced."""
        with self._telling_of_disk():
            append_line(self.root / path, line.encode())

    def parts(self, artefact: Artefact) -> Parts:
        """The rows of a table that is still being made."""
        return Parts(self.root / PARTS / f"{artefact.path}.{artefact.key[:12]}.jsonl")

    def read_plain(self, path: str) -> str | None:
        try:
            return (self.root / path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _temporary(self) -> Path:
        folder = self.root / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    @contextmanager
    def _telling_of_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_error(error, self.root) from error
        except UserError:
            raise
        except Exception as error:  # libraries wrap what the disk says into errors of their own
            if os.strerror(errno.ENOSPC) in str(error):
                raise disk_error(OSError(errno.ENOSPC, ""), self.root) from error
            raise

    # ---- one process at a time ---------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run folder; a second process gets a `UserError` at once."""
        import filelock

        with self._telling_of_disk():
            self.root.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.root / ".lock")
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                holder = self.read_plain(".lock-holder") or "another process"
                raise UserError(
                    f"{holder.strip()} is working in this run folder",
                    str(self.root),
                    "wait for it to end, or choose another folder with --set output=PATH",
                ) from None
        try:
            self.write_plain(
                ".lock-holder",
                f"process {os.getpid()} on {socket.gethostname()} "
                f"(since {time.strftime('%Y-%m-%d %H:%M:%S')})\n",
            )
            shutil.rmtree(self.root / ".tmp", ignore_errors=True)
            yield
        finally:
            lock.release()
