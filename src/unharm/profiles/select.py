"""Collects the profiles of a study from all its sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unharm.core.errors import UserError
from unharm.core.printable import name_problem
from unharm.core.records import Profile
from unharm.profiles.extreme import extreme, reverse
from unharm.profiles.settings import ProfileSource
from unharm.profiles.table import read_profiles

Placeholders = Callable[[ProfileSource], list[Profile]]
"""Makes placeholder profiles for a survey that is not available. Used by plans."""


@dataclass(frozen=True)
class SurveyFiles:
    """Where surveys are and how to read them.

    Attributes:
        path_of: Returns the path of a survey by its name in the study.
        as_published: Keep the published coding of the answers.
        placeholders: Replaces a missing survey; None makes a missing survey an error.
    """

    path_of: Callable[[str], Path]
    as_published: bool = False
    placeholders: Placeholders | None = None


def select_profiles(sources: Sequence[ProfileSource], surveys: SurveyFiles) -> list[Profile]:
    """Return all profiles, in the order of their sources. Raises `UserError` if a name is used twice."""
    profiles: dict[str, Profile] = {}
    for source in sources:
        full = _profiles_of(source, surveys)
        for profile in [weakened(profile, s) for profile in full for s in source.strength]:
            where = source.file or source.survey or "profiles"
            if problem := name_problem(profile.name):
                raise UserError(problem, where, "rename the group in the survey")
            if profile.name in profiles:
                raise UserError(
                    f"two profiles are named {profile.name!r}",
                    where,
                    "rename one; profile names in a study must be unique",
                )
            profiles[profile.name] = profile
    return list(profiles.values())


def weakened(profile: Profile, strength: float) -> Profile:
    """Return a profile with importances drawn towards their mean: mean + strength × (importance − mean)."""
    if strength == 1:
        return profile
    mean = sum(profile.importances) / len(profile.importances)
    importances = tuple(mean + strength * (x - mean) for x in profile.importances)
    return Profile(f"{profile.name}-strength-{strength:.6g}", importances, profile.source)


def _profiles_of(source: ProfileSource, surveys: SurveyFiles) -> list[Profile]:
    if source.extreme is not None:
        return [extreme(name) for name in source.extreme]
    if source.reverse is not None:
        return [reverse(name) for name in source.reverse]
    if source.file is not None:
        return read_profiles(Path(source.file).expanduser(), source.names)
    if surveys.placeholders and not surveys.path_of(source.survey or "").exists():
        return surveys.placeholders(source)
    return profiles_from_survey(source, surveys)


def profiles_from_survey(source: ProfileSource, surveys: SurveyFiles) -> list[Profile]:
    """Return the respondents nearest to each extreme, or the means of groups.

    A nearest respondent is named `<extreme>-near-<rank>`; its `source` gives the file and the row. A mean
    is named after its group.

    Raises:
        UserError: The survey cannot be read, or has fewer respondents than `nearest`.
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
        raise UserError(
            f"{k} nearest respondents requested, but the survey has {len(respondents.rows)}", str(path)
        )
    profiles = []
    for name in source.to:
        target = np.array(extreme(name).importances)
        for rank, place in enumerate(most_similar(respondents.importances, target, k), start=1):
            importances = tuple(float(x) for x in respondents.importances[place])
            row = f"{path.name} row {respondents.rows[place] + 2}"
            profiles.append(Profile(f"{name}-near-{rank}", importances, row))
    return profiles
