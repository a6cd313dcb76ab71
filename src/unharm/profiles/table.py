"""Profiles from a CSV or TSV of your own: a column `name` and one column per value."""

from __future__ import annotations

import math
from pathlib import Path

from unharm.delimited import Reader
from unharm.errors import UserError, nearest
from unharm.records import Profile
from unharm.values import HIGHEST, LOWEST, VALUES


def read_profiles(path: Path, names: list[str] | None = None) -> list[Profile]:
    """The profiles of a file, or only those in `names`, with importances in [1, 6].

    Column names are read without regard to case. Raises `UserError` with every wrong row.
    """
    reader = Reader(path, "profiles", ("name", *VALUES))
    profiles: dict[str, Profile] = {}
    for row in reader.rows():
        name = row["name"]
        if not name:
            reader.wrong(row.line, "a profile without a name")
            continue
        if name in profiles:
            reader.wrong(row.line, f"the profile {name!r} is given twice")
            continue
        numbers = []
        for value in VALUES:
            number = _importance(row[value])
            if number is None:
                reader.wrong(
                    row.line,
                    f"{value} of {name!r} is {row[value]!r}",
                    f"expected a number from {LOWEST:g} to {HIGHEST:g}",
                )
            else:
                numbers.append(number)
        if len(numbers) == len(VALUES):
            profiles[name] = Profile(name, tuple(numbers), path.name)
    reader.finish()
    if names is not None:
        unknown = [n for n in names if n not in profiles]
        if unknown:
            raise UserError(
                f"no profile named {unknown[0]!r} in this file",
                str(path),
                nearest(unknown[0], tuple(profiles)),
            )
        return [profiles[n] for n in names]
    if not profiles:
        raise UserError("profiles: no row in this file", str(path))
    return list(profiles.values())


def _importance(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and LOWEST <= number <= HIGHEST else None
