"""The part of the spec that says how prompts are worded."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from unharm.core.spec import Spec
from unharm.profiles.settings import ValueName


class Prompting(Spec):
    """Wording: `pack` is `default` or a file; `format` is how a prompt reaches the model."""

    pack: str = "default"
    format: Literal["base", "chat"] = "base"
    set_aside: list[ValueName] | dict[str, list[ValueName]] = Field(
        [], description="values that the value prompt sets aside; or by category, `all` for the others"
    )

    def aside(self, category: str) -> list[str]:
        """The values that are set aside for the prompts of a category."""
        if isinstance(self.set_aside, list):
            return self.set_aside
        return self.set_aside.get(category, self.set_aside.get("all", []))
