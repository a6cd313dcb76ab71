"""A run on object storage (any fsspec URL) and its local mirror.

The storage holds the authoritative files. The mirror holds the files that this machine has written or
read. A file is written to the mirror, then uploaded, then its marker is uploaded. An object becomes
visible only when it is complete.
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
"""Number of small files that are fetched in one request."""


def as_url(place: str) -> str | None:
    """Return the URL in `place`, or None if it is a folder. A slash lost in path handling is restored."""
    match = URL.match(place)
    return f"{match[1]}://{'/' if match[1] == 'file' else ''}{match[2].strip('/')}" if match else None


class Remote:
    """The files of one run on object storage, addressed by their path in the run.

    Raises:
        UserError: The URL contains a password, its protocol is unknown, or it cannot be reached.
    """

    def __init__(self, url: str):
        import fsspec

        if "@" in url.partition("://")[2].partition("/")[0]:
            raise UserError(
                "the URL contains a user name or password", "output", "put keys into the environment"
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
        """The local folder that mirrors this run."""
        kind, _, rest = self.url.partition("://")
        return cache_folder() / "runs" / kind / rest.strip("/")

    def _at(self, path: str) -> str:
        """Return the full path of a file on the storage."""
        return f"{self.base.rstrip('/')}/{path}"

    def put(self, path: str, file: Path) -> None:
        """Upload a local file."""
        self.write(path, file.read_bytes())

    def write(self, path: str, data: bytes) -> None:
        """Write a file and replace an existing one."""
        where = self._at(path)
        if hasattr(self.fs, "auto_mkdir") or self.fs.protocol == "memory":
            self.fs.makedirs(where.rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(where, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write a new file. Return False if it exists already."""
        where = self._at(path)
        try:
            if self.fs.exists(where):
                return False
            self.fs.makedirs(where.rpartition("/")[0], exist_ok=True)
            self.fs.pipe_file(where, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            raise UserError(f"cannot write here: {error}", self.url, "check the URL and its keys") from None
        return True

    def read(self, path: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        try:
            self.fs.invalidate_cache()
            data: bytes = self.fs.cat_file(self._at(path))
            return data
        except FileNotFoundError:
            return None

    def remove(self, path: str) -> None:
        """Delete a file if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._at(path))

    def move(self, path: str, to: str) -> None:
        """Rename a file if it exists."""
        data = self.read(path)
        if data is not None:
            self.write(to, data)
            self.remove(path)

    def listing(self, under: str) -> dict[str, tuple[Any, ...]]:
        """Return every file in a folder with its size and version; both change when the file does."""
        self.fs.invalidate_cache()
        infos = self.fs.find(self._at(under), detail=True)
        start = len(self.base.rstrip("/")) + 1
        return {
            name[start:]: (
                info.get("size"),
                str(info.get("ETag") or info.get("mtime") or info.get("created")),
            )
            for name, info in infos.items()
        }

    def pull(self, under: str, into: Path) -> None:
        """Update a folder of the mirror: fetch new and changed files, delete files that are gone."""
        with self._guard:
            remote_files = self.listing(under)
            new = [
                name
                for name, version in remote_files.items()
                if self._seen.get(name) != version or not (into / name).exists()
            ]
            for first in range(0, len(new), AT_ONCE):
                names = new[first : first + AT_ONCE]
                for name, data in self._several(names):
                    write_mirror_file(into / name, data)
                    self._seen[name] = remote_files[name]
            folder = into / under
            for file in folder.rglob("*") if folder.is_dir() else ():
                name = file.relative_to(into).as_posix()
                if file.is_file() and name not in remote_files:
                    file.unlink(missing_ok=True)

    def _several(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of several files, fetched in one request."""
        contents = self.fs.cat([self._at(n) for n in names], on_error="omit") if names else {}
        if isinstance(contents, bytes):
            contents = {self._at(names[0]): contents}
        start = len(self.base.rstrip("/")) + 1
        for where, data in contents.items():
            yield where[start:], data

    def fetch(self, path: str, into: Path) -> bool:
        """Fetch a file, or all files of a folder, into the mirror. Return False if there is none."""
        names = [path] if self.fs.isfile(self._at(path)) else list(self.listing(path))
        for name, data in self._several(names):
            write_mirror_file(into / name, data)
        return bool(names)


def write_mirror_file(path: Path, data: bytes) -> None:
    """Write a file of the mirror atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.part")
    write_synced(temporary, data)
    os.replace(temporary, path)
