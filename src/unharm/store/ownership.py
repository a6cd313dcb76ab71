"""Whose a run folder is: a marker in it names the study, and nothing else is ever overwritten.

A folder that is not empty and has no marker is somebody's own; one with the marker of another study is that
study's run. Both are refused before anything in them is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from unharm.core.errors import UserError
from unharm.core.files.disk import write_synced

if TYPE_CHECKING:
    from unharm.store.object_storage import Remote

MARKER = ".unharm"
VERSION = 1
EARLIER = ".done/study.json.json"
"""What a run folder has that was made before there was a marker."""

HELD = {".lease", ".lock", ".lock-holder", ".seen", ".tmp"}
"""What a process that was killed while it started may leave in a new folder."""

START = (
    MARKER, ".lock", ".lock-holder", ".seen",
    "study.json", "manifest.json", "prompt_pack.json", "status.json",
)  # fmt: skip
"""Files that a run writes before it makes anything."""
CHEAP = ("profiles", "examples", ".tmp")
"""Folders that a run makes again in seconds."""
ADAPTERS, COPIED = "adapters", "adapter-"
"""The folder of adapters, and how the markers of those begin that were copied from elsewhere."""


def check_folder(root: Path, study: str) -> bool:
    """Look whether a study may use a folder.

    Args:
        root: The folder, which need not exist.
        study: The name of the study; empty for work on whatever run is in it.

    Returns:
        Whether the folder is new: missing, or empty.

    Raises:
        UserError: It is a file, has files of somebody else, or the run of another study.
    """
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        raise UserError("a file is where a folder is needed", str(root)) from None
    except OSError as error:
        raise UserError(f"this folder cannot be read: {error.strerror}", str(root)) from None
    if not set(names) - HELD:
        return True
    file = root / MARKER
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
    _check(text, (root / EARLIER).is_file(), study, str(root))
    return False


def check_remote(remote: Remote, study: str) -> bool:
    """Look whether a study may use a place on object storage. See `check_folder`."""
    data = remote.read(MARKER)
    if data is None and not set(remote.listing("")) - HELD:
        return True
    text = None if data is None else data.decode("utf-8", "replace")
    _check(text, remote.read(EARLIER) is not None, study, remote.url)
    return False


def _check(marker: str | None, earlier: bool, study: str, where: str) -> None:
    """Raise `UserError` where the marker is missing, broken, or another study's."""
    todo = "choose another folder with --into FOLDER (or --set output=FOLDER)"
    if marker is None:
        if earlier:
            return
        raise UserError("this folder is not empty, and no run is in it", where, todo)
    try:
        data = json.loads(marker)
        owner, version = str(data["study"]), int(data["unharm"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"the marker {MARKER} in this folder cannot be read", where, todo) from None
    if version > VERSION:
        raise UserError("this run was made by a later version of unharm", where, "use that version")
    if study and owner != study:
        raise UserError(
            f"this folder has the run of the study {owner!r}, and this study is {study!r}", where, todo
        )


def marker_text(study: str) -> str:
    """Return the content of the marker."""
    return json.dumps({"unharm": VERSION, "study": study}) + "\n"


def mark(root: Path, study: str) -> None:
    """Write the marker of a run folder, where it has none."""
    if study and not (root / MARKER).exists():
        write_synced(root / MARKER, marker_text(study).encode())


def forget_start(root: Path, made: Path | None) -> None:
    """Remove what a run that could not start has written into a new folder, and nothing else.

    Args:
        root: The run folder. Nothing is removed where it has any work in it.
        made: The highest folder that was made for it; None where all of them were there.
    """
    cheap = [*CHEAP, *([ADAPTERS] if _only_copies(root) else [])]
    ours = {*START, *cheap, ".done"}
    journals = {name for name in os.listdir(root) if name.startswith("journal") and name.endswith(".jsonl")}
    if set(os.listdir(root)) - ours - journals or _work(root / ".done"):
        return
    for name in (*cheap, ".done"):
        shutil.rmtree(root / name, ignore_errors=True)
    for name in (*START, *journals):
        (root / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        root.rmdir()
        parent = root.parent
        while made is not None and parent.is_relative_to(made):
            parent.rmdir()
            parent = parent.parent


def _work(markers: Path) -> bool:
    """Whether there is a marker of anything that takes time to make."""
    paths = [path.relative_to(markers) for path in markers.rglob("*.json")]
    kinds = {p.parts[0] for p in paths if p.parts[0] != ADAPTERS or not p.name.startswith(COPIED)}
    return bool(kinds - {f"{name}.json" for name in START} - set(CHEAP))


def _only_copies(root: Path) -> bool:
    """Whether every adapter in a run was copied from elsewhere."""
    if not (root / ADAPTERS).is_dir():
        return False
    copied = set()
    for file in (root / ".done" / ADAPTERS).glob(f"{COPIED}*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            copied.add(json.loads(file.read_text(encoding="utf-8"))["path"])
    return {f"{ADAPTERS}/{name}" for name in os.listdir(root / ADAPTERS)} <= copied


def first_missing(root: Path) -> Path | None:
    """Return the highest folder on the way to `root` that does not exist; None where `root` does."""
    missing = None
    for folder in (root, *root.parents):
        if folder.exists():
            break
        missing = folder
    return missing
