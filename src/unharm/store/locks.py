"""Exclusive access to a run folder: a file lock on a file system, a lease on object storage."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.files.disk import disk_error
from unharm.core.progress import say

if TYPE_CHECKING:
    from unharm.store.object_storage import Remote

BEAT = 5.0
"""Seconds between two renewals of a lease."""
SILENT = 6 * BEAT
"""Seconds without renewal after which a lease is free. Clocks of two machines are never compared."""


def holder() -> str:
    """Return a description of this process for other processes that wait for the lock."""
    return f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})"


def locked_error(who: str, where: str) -> UserError:
    """Return the error for a run folder that another process uses."""
    todo = "wait for it to end, or choose another folder with --set output=PATH"
    return UserError(f"{who} is working in this run folder", where, todo)


@contextmanager
def folder_lock(root: Path) -> Iterator[None]:
    """Lock a folder. The system releases the lock when the process dies.

    Raises:
        UserError: Another process holds the lock.
    """
    import filelock

    lock, holder_file = filelock.FileLock(root / ".lock"), root / ".lock-holder"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = holder_file.read_text(encoding="utf-8").strip() if holder_file.exists() else "another process"
        raise locked_error(who, str(root)) from None
    except OSError as error:
        raise disk_error(error, root) from error
    try:
        holder_file.write_text(holder() + "\n", encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def lease(remote: Remote, beat: float = BEAT, silent: float = SILENT) -> Iterator[None]:
    """Lock a run on object storage with a small file that is renewed every `beat` seconds.

    A second process watches the file for `silent` seconds. If nobody renews it, the second process takes
    the lease over. A process that lost its lease stops as soon as its current work is stored.

    Raises:
        UserError: Another process renews the lease.
    """
    token = uuid.uuid4().hex
    beats = 0

    def content() -> bytes:
        return json.dumps({"own": token, "beat": beats, "who": holder()}).encode()

    if not remote.create(".lease", content()):
        before = remote.read(".lease")
        until = time.monotonic() + silent
        while time.monotonic() < until:
            time.sleep(min(1.0, beat))
            now = remote.read(".lease")
            if now is None:
                break
            if now != before:
                raise locked_error(json.loads(now)["who"], remote.url)
        remote.write(".lease", content())
        time.sleep(min(1.0, beat))
        now = remote.read(".lease")
        if now is None or json.loads(now)["own"] != token:
            raise locked_error("another process", remote.url)
    ended = threading.Event()

    def renew() -> None:
        nonlocal beats
        while not ended.wait(beat):
            try:
                now = remote.read(".lease")
                if now is not None and json.loads(now)["own"] != token:
                    say("another process has taken this run folder over; stopping")
                    interrupt.request_stop()
                    return
                beats += 1
                remote.write(".lease", content())
            except Exception:  # storage may be unavailable for a moment; each library raises its own errors
                continue

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        now = remote.read(".lease")
        if now is not None and json.loads(now)["own"] == token:
            remote.remove(".lease")
