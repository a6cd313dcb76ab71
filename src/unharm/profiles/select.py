"""The profiles of a study, from all of its sources."""

from __future__ import annotations

from pathlib import Path

from unharm.errors import UserError
from unharm.profiles.extreme import extreme
from unharm.profiles.table import read_profiles
from unharm.records import Profile
from unharm.study import ProfileSource


def select_profiles(sources: list[ProfileSource]) -> list[Profile]:
    """All profiles in the order of the spec. Raises `UserError` for a name used twice."""
    profiles: dict[str, Profile] = {}
    for source in sources:
        if source.extreme is not None:
            found = [extreme(name) for name in source.extreme]
        else:
            found = read_profiles(Path(source.file or "").expanduser(), source.names)
        for profile in found:
            if profile.name in profiles:
                raise UserError(
                    f"two profiles are named {profile.name!r}",
                    source.file or "profiles",
                    "profile names must differ in a study; rename one",
                )
            profiles[profile.name] = profile
    return list(profiles.values())
