"""Schwartz's ten basic values and their higher-order groups.

Source: Schwartz (1992), *Universals in the content and structure of values*. Every vector over values
has the alphabetical order of `VALUES`.
"""

from __future__ import annotations

VALUES: tuple[str, ...] = (
    "achievement",
    "benevolence",
    "conformity",
    "hedonism",
    "power",
    "security",
    "self-direction",
    "stimulation",
    "tradition",
    "universalism",
)

HIGHER_ORDER: dict[str, tuple[str, ...]] = {
    "openness-to-change": ("self-direction", "stimulation"),
    "self-enhancement": ("achievement", "hedonism", "power"),
    "conservation": ("conformity", "security", "tradition"),
    "self-transcendence": ("benevolence", "universalism"),
}

LOWEST, HIGHEST = 1.0, 6.0
"""The scale of importances: 1 is not important at all, 6 is very important."""


def canonical(name: str) -> str:
    """Return the spelling of a value or group used in unharm: lower case, words joined by hyphens."""
    return "-".join(name.strip().lower().replace("_", " ").replace("-", " ").split())
