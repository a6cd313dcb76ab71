"""What the run folder needs of the disk: synced writes, and plain words for what goes wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from unharm.errors import UserError


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


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
