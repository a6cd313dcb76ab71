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
    template). The last three fields are for chats; they hold in training and evaluation alike.
    """

    pack: str = "default"
    format: Literal["base", "chat"] = "base"
    set_aside: list[ValueName] | dict[str, list[ValueName]] = Field(
        [],
        description="values that the value prompt sets aside; or by category, `all` for the others",
    )

    system: Literal["template", "pack"] = Field(
        "template", description="the system message: the chat template's own, if any, or the pack's"
    )
    template: dict[str, bool | int | str] = Field(
        {}, description="arguments of the chat template, such as {enable_thinking: false}"
    )
    continuation: Literal["ask", "prefill"] = Field(
        "ask", description="how a chat model is given a text to continue"
    )

    def set_aside_for(self, category: str) -> list[str]:
        """Return the values that are set aside for the prompts of a category."""
        if isinstance(self.set_aside, list):
            return self.set_aside
        return self.set_aside.get(category, self.set_aside.get("all", []))
