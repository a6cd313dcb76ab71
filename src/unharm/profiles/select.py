"""The profiles of a study, from all of its sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unharm.core.errors import UserError
from unharm.core.records import Profile
from unharm.profiles.extreme import extreme, reverse
from unharm.profiles.settings import ProfileSource
from unharm.profiles.table import read_profiles

Placeholders = Callable[[ProfileSource], list[Profile]]
"""Profiles that stand for those of a survey that is not at hand, in plans."""


@dataclass(frozen=True)
class SurveyFiles:
    """Where surveys are (`path_of` a name), whether their coding stays as published, and what stands for a
    survey that is not at hand (None: it is an error)."""

    path_of: Callable[[str], Path]
    as_published: bool = False
    placeholders: Placeholders | None = None


def select_profiles(sources: Sequence[ProfileSource], surveys: SurveyFiles) -> list[Profile]:
    """All profiles in the order of their sources. Raises `UserError` for a name used twice."""
    profiles: dict[str, Profile] = {}
    for source in sources:
        for profile in _profiles_of(source, surveys):
            if profile.name in profiles:
                raise UserError(
                    f"two profiles are named {profile.name!r}",
                    source.file or source.survey or "profiles",
                    "profile names must differ in a study; rename one",
                )
            profiles[profile.name] = profile
    return list(profiles.values())


def _profiles_of(source: ProfileSource, surveys: SurveyFiles) -> list[Profile]:
    if source.extreme is not None:
        return [extreme(name) for name in source.extreme]
    if source.reverse is not None:
        return [reverse(name) for name in source.reverse]
    if source.file is not None:
        return read_profiles(Path(source.file).expanduser(), source.names)
    if surveys.placeholders and not surveys.path_of(source.survey or "").exists():
        return surveys.placeholders(source)
    return from_survey(source, surveys)


def from_survey(source: ProfileSource, surveys: SurveyFiles) -> list[Profile]:
    """Respondents nearest to each extreme, `<extreme>-near-<rank>`, or the means of groups.

    Names of neighbours carry their target; `source` is the file with the row of the respondent.
    """
    from unharm.profiles.similar import most_similar
    from unharm.profiles.survey import group_means, load_items, read_survey

    path = surveys.path_of(source.survey or "")
    respondents = read_survey(
        path,
        load_items(source.items),
        as_published=surveys.as_published,
        ipsatise=source.ipsatise,
        group=source.groups,
    )
    if source.groups is not None:
        return [
            Profile(name, tuple(float(x) for x in mean), f"{path.name} (mean of {n})")
            for name, (mean, n) in group_means(respondents).items()
        ]
    k = source.nearest or 0
    if k > len(respondents.rows):
        raise UserError(f"{k} nearest respondents asked for, {len(respondents.rows)} are there", str(path))
    found = []
    for name in source.to:
        target = np.array(extreme(name).importances)
        for rank, place in enumerate(most_similar(respondents.importances, target, k), start=1):
            importances = tuple(float(x) for x in respondents.importances[place])
            row = f"{path.name} row {respondents.rows[place] + 2}"
            found.append(Profile(f"{name}-near-{rank}", importances, row))
    return found
