"""The settings of the wording of prompts."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from unharm.core.spec import Spec
from unharm.profiles.settings import ValueName


class Prompting(Spec):
    """The wording of prompts.

    `pack` is `default`, `toy` or a file. `format` is `base` (plain text) or `chat` (the model's chat
    template).
    """

    pack: str = "default"
    format: Literal["base", "chat"] = "base"
    set_aside: list[ValueName] | dict[str, list[ValueName]] = Field(
        [],
        description="values that the value prompt sets aside; or by category, `all` for the others",
    )

    def set_aside_for(self, category: str) -> list[str]:
        """Return the values that are set aside for the prompts of a category."""
        if isinstance(self.set_aside, list):
            return self.set_aside
        return self.set_aside.get(category, self.set_aside.get("all", []))
