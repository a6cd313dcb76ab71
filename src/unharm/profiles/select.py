"""The profiles of a study, from all of its sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unharm.errors import UserError
from unharm.profiles.extreme import extreme, reverse
from unharm.profiles.table import read_profiles
from unharm.records import Profile
from unharm.study import ProfileSource, Study


def select_profiles(study: Study, sizes_only: bool = False) -> list[Profile]:
    """All profiles in the order of the spec; with `sizes_only` placeholders for a survey that is not at
    hand. Raises `UserError` for a name used twice."""
    profiles: dict[str, Profile] = {}
    for source in study.profiles:
        for profile in _profiles_of(study, source, sizes_only):
            if profile.name in profiles:
                raise UserError(
                    f"two profiles are named {profile.name!r}",
                    source.file or source.survey or "profiles",
                    "profile names must differ in a study; rename one",
                )
            profiles[profile.name] = profile
    return list(profiles.values())


def _profiles_of(study: Study, source: ProfileSource, sizes_only: bool) -> list[Profile]:
    if source.extreme is not None:
        return [extreme(name) for name in source.extreme]
    if source.reverse is not None:
        return [reverse(name) for name in source.reverse]
    if source.file is not None:
        return read_profiles(Path(source.file).expanduser(), source.names)
    if sizes_only and not study.data_file(source.survey or "").exists():
        from unharm.published_sizes import profiles

        return profiles(source)
    return from_survey(study, source)


def from_survey(study: Study, source: ProfileSource) -> list[Profile]:
    """Respondents nearest to each extreme, `<extreme>-near-<rank>`, or the means of groups.

    With `fidelity: published` the survey's coding stays unreversed. Names of neighbours carry
    their target; `source` is the file with the row of the respondent.
    """
    from unharm.profiles.similar import most_similar
    from unharm.profiles.survey import group_means, load_items, read_survey

    path = study.data_file(source.survey or "")
    respondents = read_survey(
        path,
        load_items(source.items),
        as_published=study.fidelity == "published",
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
