"""Survey files, and studies of their respondents."""

from __future__ import annotations

from pathlib import Path

from unharm.core.values import VALUES
from unharm.profiles.survey import load_items

ITEMS = load_items()


def survey(
    path: Path, rows: list[list[object]], extra: dict[str, list[str]] | None = None, sep: str = ","
) -> Path:
    extra = extra or {}
    lines = [sep.join([*ITEMS.columns, *extra])]
    lines += [
        sep.join([*map(str, row), *(column[i] for column in extra.values())]) for i, row in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def answers(**by_value: int) -> list[object]:
    """One respondent: the answer to every item of a value, 3 where not said."""
    return [by_value.get(v.replace("-", "_"), 3) for v in VALUES for _ in ITEMS.values[v]]
