"""A run on object storage (any fsspec URL): what is there, and its mirror in a folder of this machine.

The storage is the truth, the mirror holds what this machine has written or needed. A file is written to the
mirror, then put whole to the storage, then its marker; object storage shows an object when it is all there.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError
from unharm.core.files.disk import cache_folder, write_synced

URL = re.compile(r"^([a-z][a-z0-9+.-]+):/+(.*)$")
AT_ONCE = 256
"""Small files that are fetched together."""


def as_url(place: str) -> str | None:
    """The URL that a text names (a slash may have been lost on the way); None where it names a folder."""
    match = URL.match(place)
    return f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2].strip('/')}" if match else None


class Remote:
    """The files of one run on object storage, by their paths in it.

    Raises `UserError` where the URL has a password in it, its kind is not known, or it cannot be reached.
    """

    def __init__(self, url: str):
        import fsspec

        if "@" in url.partition("://")[2].partition("/")[0]:
            raise UserError(
                "a URL with a name or password in it", "output", "keys belong in the environment"
            )
        self.url = url
        try:
            self.fs: Any
            self.fs, self.base = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            kind = url.partition("://")[0]
            todo = f"pip install {'s3fs' if kind == 's3' else f'the fsspec package for {kind}'}"
            raise UserError(f"no access to {kind}: {error}", "output", todo) from None
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._guard = threading.Lock()

    @property
    def mirror(self) -> Path:
        """The folder of this machine that mirrors it."""
        kind, _, rest = self.url.partition("://")
        return cache_folder() / "runs" / kind / rest.strip("/")

    def _at(self, path: str) -> str:
        return f"{self.base.rstrip('/')}/{path}"

    def put(self, path: str, file: Path) -> None:
        self.write(path, file.read_bytes())

    def write(self, path: str, data: bytes) -> None:
        """Puts a whole file, in place of the one that was there."""
        where = self._at(path)
        if hasattr(self.fs, "auto_mkdir") or self.fs.protocol == "memory":
            self.fs.makedirs(where.rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(where, data)

    def create(self, path: str, data: bytes) -> bool:
        """Puts a file where there was none; False where there was one."""
        where = self._at(path)
        try:
            if self.fs.exists(where):
                return False
            self.fs.makedirs(where.rpartition("/")[0], exist_ok=True)
            self.fs.pipe_file(where, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(
                f"this place cannot be written: {error}", self.url, "check it and its keys"
            ) from None
        return True

    def read(self, path: str) -> bytes | None:
        try:
            self.fs.invalidate_cache()
            data: bytes = self.fs.cat_file(self._at(path))
            return data
        except FileNotFoundError:
            return None

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._at(path))

    def move(self, path: str, to: str) -> None:
        data = self.read(path)
        if data is not None:
            self.write(to, data)
            self.remove(path)

    def listing(self, under: str) -> dict[str, tuple[Any, ...]]:
        """Every file in a folder, with what changes when it does."""
        self.fs.invalidate_cache()
        found = self.fs.find(self._at(under), detail=True)
        start = len(self.base.rstrip("/")) + 1
        return {
            name[start:]: (
                about.get("size"),
                str(about.get("ETag") or about.get("mtime") or about.get("created")),
            )
            for name, about in found.items()
        }

    def pull(self, under: str, into: Path) -> None:
        """Brings the mirror up to date with a folder: what is new or has changed, and what is gone."""
        with self._guard:
            there = self.listing(under)
            new = [n for n, about in there.items() if self._seen.get(n) != about or not (into / n).exists()]
            for first in range(0, len(new), AT_ONCE):
                names = new[first : first + AT_ONCE]
                for name, data in self._several(names):
                    keep(into / name, data)
                    self._seen[name] = there[name]
            folder = into / under
            for file in folder.rglob("*") if folder.is_dir() else ():
                name = file.relative_to(into).as_posix()
                if file.is_file() and name not in there:
                    file.unlink(missing_ok=True)

    def _several(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        found = self.fs.cat([self._at(n) for n in names], on_error="omit") if names else {}
        if isinstance(found, bytes):
            found = {self._at(names[0]): found}
        start = len(self.base.rstrip("/")) + 1
        for where, data in found.items():
            yield where[start:], data

    def fetch(self, path: str, into: Path) -> bool:
        """Brings a file, or all files of a folder, into the mirror; False where there is none."""
        names = [path] if self.fs.isfile(self._at(path)) else list(self.listing(path))
        for name, data in self._several(names):
            keep(into / name, data)
        return bool(names)


def keep(path: Path, data: bytes) -> None:
    """Writes a file of the mirror in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.part")
    write_synced(temporary, data)
    os.replace(temporary, path)
