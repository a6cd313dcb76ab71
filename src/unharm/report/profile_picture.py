"""Draws profiles: bars for the terminal, bars as SVG, and two profiles side by side."""

from __future__ import annotations

import numpy as np

from unharm.core.errors import UserError, nearest
from unharm.core.records import Profile
from unharm.core.values import HIGHEST, LOWEST, VALUES
from unharm.profiles.similar import jensen_shannon

WIDTH = 30


def find_profile(profiles: list[Profile], name: str) -> Profile:
    """Return the profile with this name. Raises `UserError`, which suggests the nearest name."""
    for profile in profiles:
        if profile.name == name:
            return profile
    raise UserError(f"no profile named {name!r}", todo=nearest(name, [p.name for p in profiles]))


def profile_bars(profile: Profile) -> str:
    """Draw one line per value, from 1 (empty) to 6 (full)."""
    lines = [f"{profile.name}  ({profile.source})" if profile.source else profile.name]
    for value in VALUES:
        filled = round((profile[value] - LOWEST) / (HIGHEST - LOWEST) * WIDTH)
        lines.append(f"  {value:15}{'█' * filled}{'·' * (WIDTH - filled)} {profile[value]:.2f}")
    return "\n".join(lines)


def profile_svg(profile: Profile) -> str:
    """Draw the same bars as an SVG document. The name is escaped."""
    import altair as alt
    import vl_convert

    rows = [{"value": v, "importance": profile[v]} for v in VALUES]
    chart = (
        alt.Chart(alt.InlineData(rows), title=profile.name)
        .mark_bar()
        .encode(
            x=alt.X("importance:Q", scale=alt.Scale(domain=[LOWEST, HIGHEST]), title="importance"),
            x2=alt.datum(LOWEST),
            y=alt.Y("value:N", sort=list(VALUES), title=None),
        )
        .properties(width=360)
    )
    return str(vl_convert.vegalite_to_svg(chart.to_json()))


def profile_comparison(one: Profile, other: Profile) -> dict[str, object]:
    """Compare two profiles.

    Returns:
        Names, importances, difference by value (`other` − `one`), Jensen-Shannon divergence in nats, and
        Spearman's rank correlation over the ten values (None if a profile is constant).
    """
    from unharm.analysis.intervals import spearman

    rank, _ = spearman(one.importances, other.importances, 0.95)
    divergence = jensen_shannon(np.array([one.importances]), np.array(other.importances))[0]
    return {
        "profiles": [one.name, other.name],
        "importances": {v: [one[v], other[v]] for v in VALUES},
        "differences": {v: other[v] - one[v] for v in VALUES},
        "jensen_shannon": float(divergence),
        "rank_correlation": rank.value,
    }


def comparison_text(one: Profile, other: Profile) -> str:
    """Return the comparison as a text table."""
    comparison = profile_comparison(one, other)
    lines = [f"{'':15}{one.name[:18]:>20}{other.name[:18]:>20}{'difference':>12}"]
    lines += [f"{v:15}{one[v]:>20.2f}{other[v]:>20.2f}{other[v] - one[v]:>+12.2f}" for v in VALUES]
    rank = comparison["rank_correlation"]
    lines.append(f"Jensen-Shannon divergence {comparison['jensen_shannon']:.4f}")
    lines.append(f"rank correlation {rank:+.2f}" if isinstance(rank, float) else "rank correlation –")
    return "\n".join(lines)
