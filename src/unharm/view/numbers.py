"""Numbers as the pages show them."""

from __future__ import annotations


def score(value: float | None) -> str:
    """Return a score with up to three digits, a dash without one."""
    if value is None:
        return "–"
    return "< 0.001" if 0 < value < 0.001 else f"{value:.3g}"


def signed(value: float | None) -> str:
    """Return a change with its sign."""
    if value is None:
        return "–"
    return f"{value:+.3g}".replace("-", "−") if abs(value) >= 0.001 else "0"
