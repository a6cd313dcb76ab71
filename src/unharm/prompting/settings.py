"""The settings of the wording of prompts."""

from __future__ import annotations

from typing import Literal

from pydantic import (
    Field,
)

from unharm.core.arms import CONTROLS, WRONG_VALUE
from unharm.core.spec import Spec
from unharm.profiles.settings import ValueName


class Prompting(Spec):
    """The wording of prompts.

    `pack` is `default`, `toy` or a file. `format` is `base` (plain text) or `chat` (the model's chat
    template). The last three fields are for chats; they hold in training and evaluation alike.
    """

    pack: str = "default"
    format: Literal["base", "chat"] = "base"
    set_aside: list[ValueName] | dict[str, list[ValueName]] = Field(
        [],
        description="values that the value prompt sets aside; or by category, `all` for the others",
    )

    set_aside_control: list[ValueName] | dict[str, list[ValueName]] = Field(
        [], description="values that the control `wrong-value` sets aside; or by category"
    )

    system: Literal["template", "pack", "none"] = Field(
        "template", description="the system message: the template's own, the pack's, or an empty one"
    )
    template: dict[str, bool | int | str] = Field(
        {}, description="arguments of the chat template, such as {enable_thinking: false}"
    )
    continuation: Literal["ask", "prefill"] = Field(
        "ask", description="how a chat model is given a text to continue"
    )

    def set_aside_for(self, category: str, strategy: str = "value") -> list[str]:
        """Return the values that a strategy sets aside for the prompts of a category."""
        values = self.set_aside_control if strategy == WRONG_VALUE else self.set_aside
        return values if isinstance(values, list) else values.get(category, values.get("all", []))

    def by_category(self, strategy: str) -> dict[str, list[ValueName]]:
        """Return the values by category, where the text of a strategy depends on the category."""
        if strategy not in ("value", "dual", *CONTROLS):
            return {}
        values = self.set_aside_control if strategy == WRONG_VALUE else self.set_aside
        return values if isinstance(values, dict) else {}
