"""Synced and atomic writes, and messages for disk errors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.secrets import redact_bytes


def disk_error(error: OSError, root: Path) -> Exception:
    """Return a `UserError` for a full disk or a folder that cannot be written; other errors unchanged."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            "the disk is full", str(root), "free some space and run the same command again to continue"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError("no permission to write here", str(root), "choose another with --set output=PATH")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return UserError("a file is where a folder is needed", str(error.filename or root))
    if error.errno == errno.ENAMETOOLONG:
        return UserError(
            "a name in this path is longer than 255 bytes",
            str(root),
            "choose another with --set output=PATH",
        )
    if error.errno == errno.ENOENT:
        return UserError("this folder cannot be made", str(root), "choose another with --set output=PATH")
    return error


def cache_folder() -> Path:
    """Return `$UNHARM_CACHE`, or the folder `unharm` in the user's cache folder."""
    if configured := os.environ.get("UNHARM_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unharm"


@contextlib.contextmanager
def telling_of_disk(root: Path) -> Iterator[None]:
    """Turn disk errors into the message of `disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, root) from error
    except UserError:
        raise
    except Exception as error:  # libraries wrap disk errors in their own types
        if os.strerror(errno.ENOSPC) in str(error):
            raise disk_error(OSError(errno.ENOSPC, ""), root) from error
        raise


PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
"""Only the user reads what may be harmful text, and adapters that make a model say it."""


def _private(path: str, flags: int) -> int:
    """Open a file that only the user may read if it is new."""
    return os.open(path, flags, PRIVATE_FILE)


def make_private(folder: Path) -> None:
    """Let only the user read a folder and everything in it."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE)


def write_synced(path: Path, data: bytes, private: bool = True) -> None:
    """Write a file and sync it to the disk; only the user may read it if it is `private`."""
    with open(path, "wb", opener=_private if private else None) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def link_or_copy(source: str, target: str) -> str:
    """Make a hard link, or a copy if the file system has no links, and return the target."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def write_whole(path: Path, data: bytes, name: str, private: bool = False) -> None:
    """Write a file atomically.

    Args:
        path: The file.
        data: Its content.
        name: What the file is, for the error message, such as `the table`.
        private: Whether only the user may read it.

    Raises:
        UserError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        write_synced(temporary, redact_bytes(data), private)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {name}: {error.strerror}", str(path)) from None


def refuse_existing(paths: Iterable[Path | None], force: bool) -> None:
    """Raise `UserError` with every file that exists already, unless `force` allows to write over it.

    Args:
        paths: Files that a command is about to write; None stands for one that is not asked for.
        force: What `--force` says.
    """
    raise_all(
        [
            Problem("this file exists already", str(path), "name another, or write over it with --force")
            for path in paths
            if path is not None and (path.exists() or path.is_symlink()) and not (force and path.is_file())
        ]
    )


def sync(path: Path) -> None:
    """Sync a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_line(path: Path, line: bytes) -> None:
    """Append a line and sync the file. If the last line is incomplete, start a new one first."""
    with open(path, "ab", opener=_private) as file:
        file.write((line if _ends_with_newline(path) else b"\n" + line) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(path: Path) -> bool:
    """Return whether a file is empty or its last line is complete."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class Parts:
    """Rows of an unfinished table, one line of JSON each. They survive a kill of the process."""

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None

    def add(self, row: dict[str, Any], synced: bool = False) -> None:
        """Append a row. With `synced`, it also survives a power cut."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab", opener=_private)  # noqa: SIM115  # until `close`
                if not _ends_with_newline(self.path):
                    self._file.write(b"\n")
            data = redact_bytes(json.dumps(row).encode())
            self._file.write(b"%08x %s\n" % (zlib.crc32(data), data))
            self._file.flush()
            if synced:
                os.fsync(self._file.fileno())
        except OSError as error:
            self.close()
            raise disk_error(error, self.path.parent) from error

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows. Lines whose checksum does not match are skipped."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            try:
                intact = int(line[:8], 16) == zlib.crc32(line[9:])
            except ValueError:
                continue
            if intact:
                rows.append(json.loads(line[9:]))
        return rows

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # `add` has raised the error already
                file.close()

    def drop(self) -> None:
        """Delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)
