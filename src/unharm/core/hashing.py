"""Content keys, checksums and safe file names."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any


def content_hash(data: Any) -> str:
    """Return a hash of plain data (32 hex digits). The order of dictionary keys does not matter."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def content_key(stage: str, version: int, parameters: Mapping[str, Any], *inputs: str) -> str:
    """Return the content key of an artefact: a hash of everything it depends on.

    Args:
        stage: The stage that makes it.
        version: The version of that stage.
        parameters: Settings that change the result.
        inputs: Content keys of its inputs, in order.
    """
    return content_hash([stage, version, dict(parameters), list(inputs)])


def slug(name: str) -> str:
    """Return a name as one safe path component. Different names give different components.

    A name of lower-case letters, digits, `_` and `-` is returned unchanged. Any other name is spelled
    in ASCII with a hash at the end.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name) and len(name) <= 60:
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48] or "name"
    return f"{plain}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder together with their names."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def version_of(package: str) -> str:
    """Return the installed version of a package, or `not installed`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
