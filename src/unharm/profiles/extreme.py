"""Extreme profiles: 6 for the target value (or every value of a higher-order group), 1 for all others.

Source: Kang et al. (2023), Choi et al. (2025).
"""

from __future__ import annotations

from unharm.core.records import Profile
from unharm.core.values import HIGHER_ORDER, HIGHEST, LOWEST, VALUES

TARGETS: dict[str, tuple[str, ...]] = {**{value: (value,) for value in VALUES}, **HIGHER_ORDER}
"""The values that each of the 14 extremes sets to 6."""


def extreme(name: str) -> Profile:
    """Return the extreme profile of a value or higher-order value. Raises `KeyError` for another name."""
    high = TARGETS[name]
    return Profile(name, tuple(HIGHEST if v in high else LOWEST for v in VALUES), "extreme")


def reverse(name: str) -> Profile:
    """Return the opposite of an extreme: 1 for its values, 6 for all others; named `reverse-<name>`."""
    low = TARGETS[name]
    importances = tuple(LOWEST if v in low else HIGHEST for v in VALUES)
    return Profile(f"reverse-{name}", importances, "reverse")
