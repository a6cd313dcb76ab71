"""Reads profiles from a user's file: CSV or TSV with a column `name` and one per value, or YAML."""

from __future__ import annotations

import math
from pathlib import Path

from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.delimited import Reader, unguarded
from unharm.core.files.yaml_text import SpecText, read_text
from unharm.core.printable import name_problem
from unharm.core.records import Profile
from unharm.core.values import HIGHEST, LOWEST, VALUES, canonical

RANGE = f"expected a number from {LOWEST:g} to {HIGHEST:g}"


def read_profiles(path: Path, names: list[str] | None = None) -> list[Profile]:
    """Read the profiles of a file.

    Args:
        path: The file. The case of value names does not matter.
        names: Return only these profiles, in this order; None for all.

    Raises:
        UserError: Rows are wrong (all of them are listed), or a requested profile is missing.
    """
    profiles = _from_yaml(path) if path.suffix in (".yaml", ".yml") else _from_table(path)
    if not profiles:
        raise UserError("profiles: this file has no profile", str(path))
    if names is None:
        return list(profiles.values())
    unknown = [n for n in names if n not in profiles]
    if unknown:
        raise UserError(
            f"no profile named {unknown[0]!r} in this file", str(path), nearest(unknown[0], tuple(profiles))
        )
    return [profiles[n] for n in names]


def _from_table(path: Path) -> dict[str, Profile]:
    reader = Reader(path, "profiles", ("name", *VALUES))
    repeated = [v for v in VALUES if [canonical(c) for c in reader.all_columns].count(v) > 1]
    if repeated:
        raise UserError(f"profiles: the value {repeated[0]!r} has two columns", f"{path}:1")
    profiles: dict[str, Profile] = {}
    for row in reader.rows():
        name = unguarded(row["name"])  # profiles/profiles.csv of a run has guards
        if not name:
            reader.wrong(row.line, "a profile without a name")
            continue
        if problem := name_problem(name):
            reader.wrong(row.line, problem, "choose another name")
            continue
        if name in profiles:
            reader.wrong(row.line, f"the profile {name!r} is given twice")
            continue
        numbers = []
        for value in VALUES:
            number = _importance(row[value])
            if number is None:
                reader.wrong(row.line, f"{value} of {name!r} is {row[value]!r}", RANGE)
            else:
                numbers.append(number)
        if len(numbers) == len(VALUES):
            profiles[name] = Profile(name, tuple(numbers), path.name)
    reader.finish()
    return profiles


def _from_yaml(path: Path) -> dict[str, Profile]:
    text = SpecText(read_text(path, "profiles"), str(path))
    problems = list(text.problems)
    profiles: dict[str, Profile] = {}
    for name, given in text.data.items():
        where = text.where((str(name),))
        if problem := name_problem(str(name)):
            problems.append(Problem(problem, where, "choose another name"))
            continue
        if not isinstance(given, dict):
            problems.append(Problem("expected ten values with their importances", where))
            continue
        by_value = {canonical(str(v)): number for v, number in given.items()}
        for value in by_value:
            if value not in VALUES:
                problems.append(Problem(f"unknown value {value!r}", where, nearest(value, VALUES)))
        missing = [v for v in VALUES if v not in by_value]
        if missing:
            problems.append(Problem(f"the value {missing[0]!r} is missing", where, "give all ten"))
            continue
        numbers = [_importance(str(by_value[v])) for v in VALUES]
        problems += [
            Problem(f"{value} is {by_value[value]!r}", where, RANGE)
            for value, number in zip(VALUES, numbers, strict=True)
            if number is None
        ]
        profiles[str(name)] = Profile(str(name), tuple(n for n in numbers if n is not None), path.name)
    raise_all(problems)
    return profiles


def _importance(text: str) -> float | None:
    """Return the number in a cell, or None where it is none from 1 to 6. Python also takes `1_0`."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if "_" not in text and math.isfinite(number) and LOWEST <= number <= HIGHEST else None
