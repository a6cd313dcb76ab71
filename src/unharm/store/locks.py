"""One process at a time in a run folder: a lock on a file system, a lease on object storage."""

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
"""Seconds between two beats of a lease."""
SILENT = 6 * BEAT
"""A lease that has not been renewed for so long is free. Nobody's clock is compared with another's."""


def holder() -> str:
    return f"process {os.getpid()} on {socket.gethostname()} (since {time.strftime('%Y-%m-%d %H:%M:%S')})"


def held(who: str, where: str) -> UserError:
    todo = "wait for it to end, or choose another folder with --set output=PATH"
    return UserError(f"{who} is working in this run folder", where, todo)


@contextmanager
def folder_lock(root: Path) -> Iterator[None]:
    """Holds a folder; a second process gets a `UserError` at once. The system frees it when a process
    dies."""
    import filelock

    lock, told = filelock.FileLock(root / ".lock"), root / ".lock-holder"
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = told.read_text(encoding="utf-8").strip() if told.exists() else "another process"
        raise held(who, str(root)) from None
    except OSError as error:
        raise disk_error(error, root) from error
    try:
        told.write_text(holder() + "\n", encoding="utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def lease(remote: Remote, beat: float = BEAT, silent: float = SILENT) -> Iterator[None]:
    """Holds a place on object storage by a small file that is written again and again.

    A second process watches that file for a while: where it changes, it gets a `UserError`; where nobody
    writes it any more, it takes over. A process that was taken over from stops at the next good moment.
    """
    own = uuid.uuid4().hex
    beats = 0

    def content() -> bytes:
        return json.dumps({"own": own, "beat": beats, "who": holder()}).encode()

    if not remote.create(".lease", content()):
        before = remote.read(".lease")
        until = time.monotonic() + silent
        while time.monotonic() < until:
            time.sleep(min(1.0, beat))
            now = remote.read(".lease")
            if now is None:
                break
            if now != before:
                raise held(json.loads(now)["who"], remote.url)
        remote.write(".lease", content())
        time.sleep(min(1.0, beat))
        now = remote.read(".lease")
        if now is None or json.loads(now)["own"] != own:
            raise held("another process", remote.url)
    ended = threading.Event()

    def renew() -> None:
        nonlocal beats
        while not ended.wait(beat):
            try:
                now = remote.read(".lease")
                if now is not None and json.loads(now)["own"] != own:
                    say("another process has taken over this run folder; stopping")
                    interrupt.ask()
                    return
                beats += 1
                remote.write(".lease", content())
            except Exception:  # storage that is away for a moment, whatever its library raises then
                continue

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        now = remote.read(".lease")
        if now is not None and json.loads(now)["own"] == own:
            remote.remove(".lease")
