"""Tables of profiles."""

from __future__ import annotations

from pathlib import Path

from unharm.core.values import VALUES

HEADER = "name," + ",".join(VALUES)


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path
