"""Extreme profiles: the target value, or every value of a higher-order group, at 6; others at 1.

Source: Kang et al. (2023), Choi et al. (2025).
"""

from __future__ import annotations

from unharm.core.records import Profile
from unharm.core.values import HIGHER_ORDER, HIGHEST, LOWEST, VALUES

TARGETS: dict[str, tuple[str, ...]] = {**{value: (value,) for value in VALUES}, **HIGHER_ORDER}
"""The values that each of the 14 extremes sets to 6."""


def extreme(name: str) -> Profile:
    """The extreme profile named after a value or a higher-order value (`KeyError` otherwise)."""
    high = TARGETS[name]
    return Profile(name, tuple(HIGHEST if v in high else LOWEST for v in VALUES), "extreme")


def reverse(name: str) -> Profile:
    """The opposite of an extreme: its values at 1, all others at 6; named `reverse-<name>`."""
    low = TARGETS[name]
    importances = tuple(LOWEST if v in low else HIGHEST for v in VALUES)
    return Profile(f"reverse-{name}", importances, "reverse")
