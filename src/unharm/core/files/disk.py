"""What the run folder needs of the disk: synced writes, and plain words for what goes wrong."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from unharm.core.errors import UserError


def disk_error(error: OSError, root: Path) -> Exception:
    """The message for a full disk or a folder that cannot be written; other errors as they are."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "the disk is full", str(root), "free some space and run the same command: it goes on"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError("no permission to write here", str(root), "choose another with --set output=PATH")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return UserError("a file is where a folder is needed", str(error.filename or root))
    if error.errno == errno.ENOENT:
        return UserError("this folder cannot be made", str(root), "choose another with --set output=PATH")
    return error


def cache_folder() -> Path:
    """`$UNHARM_CACHE`, else `unharm` in the user's cache folder."""
    if own := os.environ.get("UNHARM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unharm"


@contextlib.contextmanager
def telling_of_disk(root: Path) -> Iterator[None]:
    """What the disk refuses becomes the message of `disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, root) from error
    except UserError:
        raise
    except Exception as error:  # libraries wrap what the disk says into errors of their own
        if os.strerror(errno.ENOSPC) in str(error):
            raise disk_error(OSError(errno.ENOSPC, ""), root) from error
        raise


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def link_or_copy(source: str, target: str) -> str:
    """The same file at another place: a hard link, or a copy where links are not to be had."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def write_whole(path: Path, data: bytes, what: str) -> None:
    """A file that the user asked for, replaced in one go: never half of it. Raises `UserError` where `what`
    it is cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        write_synced(temporary, data)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {what}: {error.strerror}", str(path)) from None


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, line: bytes) -> None:
    """One more line of a file, after one that a kill or a full disk has cut too; it outlives a power
    cut."""
    with path.open("ab") as file:
        file.write((line if _ends_whole(path) else b"\n" + line) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_whole(path: Path) -> bool:
    """Whether the last line of a file, if it has any, is not cut."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class Parts:
    """Rows of a table that is still being made, one line of JSON each: what a kill does not take."""

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None

    def add(self, row: dict[str, Any], synced: bool = False) -> None:
        """Keeps a row; `synced` outlives a power cut too."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab")
                if not _ends_whole(self.path):
                    self._file.write(b"\n")
            data = json.dumps(row).encode()
            self._file.write(b"%08x %s\n" % (zlib.crc32(data), data))
            self._file.flush()
            if synced:
                os.fsync(self._file.fileno())
        except OSError as error:
            self.close()
            raise disk_error(error, self.path.parent) from error

    def rows(self) -> list[dict[str, Any]]:
        """All rows, without lines that were cut or damaged: each carries its checksum."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                sound = int(line[:8], 16) == zlib.crc32(line[9:])
            except ValueError:
                continue
            if sound:
                found.append(json.loads(line[9:]))
        return found

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what could not be written has been told
                file.close()

    def drop(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)
