"""An argument with chosen values."""

from __future__ import annotations

from unharm.core.records import Argument


def argument(*values: str, identity: str = "a") -> Argument:
    return Argument(identity, "We should rest", "against", "work is fun", values)
