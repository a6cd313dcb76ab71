"""Base class and field types of all settings in a study."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from unharm.core.errors import nearest
from unharm.core.printable import CONTROL, LONGEST


def _no_bool(value: Any) -> Any:
    """Refuse true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"give a number, not {str(value).lower()}")
    return value


NUMBER = BeforeValidator(_no_bool)
Probability = Annotated[float, NUMBER, Field(ge=0, le=1)]
Positive = Annotated[int, NUMBER, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, NUMBER, Field(ge=1, le=1_000_000)]
Few = Annotated[int, NUMBER, Field(ge=1, le=10_000)]
Amount = Annotated[float, NUMBER, Field(gt=0, le=1e6)]
"""A number that is not beyond all measure: what is larger is a slip of the keyboard."""
AmountOrZero = Annotated[float, NUMBER, Field(ge=0, le=1e6)]
Temperature = Annotated[float, NUMBER, Field(ge=0, le=100)]
Seed = Annotated[int, NUMBER, Field(ge=0, le=2**53 - 1)]
"""JSON keeps whole numbers up to this one exactly."""

LONGEST_TEXT = 4000
"""Bytes of a text in a study. Wordings are in files of their own."""
WORDINGS = ("stop", "template", "description", "line", "relevance", "valence")
"""Fields whose texts may have line ends."""


class Spec(BaseModel):
    """Base class of settings: unknown fields are errors, instances are immutable, numbers are finite.

    Every text is checked: names and paths go into files, tables and on terminals.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _harmless(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name not in WORDINGS:
            for text in _texts(value):
                if message := text_value_problem(text):
                    raise ValueError(message)
        return value


def _texts(value: Any) -> list[str]:
    """Return a text, or the texts directly in a list or mapping with the mapping's names."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for text in value if isinstance(text, str)]
    if isinstance(value, dict):
        return [text for pair in value.items() for text in pair if isinstance(text, str)]
    return []


def text_value_problem(text: str) -> str:
    """Return what is wrong with a name, path or URL in a study; an empty string if nothing is."""
    if CONTROL.search(text):
        return "give a text without control characters"
    if len(text.encode()) > LONGEST_TEXT:
        return f"give a shorter text: at most {LONGEST_TEXT:,} bytes"
    if any(len(part.encode()) > LONGEST for part in text.split("/")):
        return f"give a shorter name: at most {LONGEST} bytes"
    if text.startswith("~") and not _has_home(text):
        return "give the path in full: there is no such user"
    if "://" in text:
        place = text.partition("://")[2]
        if "@" in place.partition("/")[0]:
            return "give the URL without a name or password: keys belong in the environment"
        if re.search(r"[?#]", place):
            return "give the URL without a query: keys belong in the environment"
    return ""


def _has_home(text: str) -> bool:
    """Return whether the user after `~` has a home folder."""
    try:
        Path(text).expanduser()
    except RuntimeError:
        return False
    return True


def one_of(names: tuple[str, ...]) -> AfterValidator:
    """Return a validator that accepts only the given names."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"unknown name {name!r}; {nearest(name, names)}")
        return name

    return AfterValidator(check)


def unique(names: list[str]) -> list[str]:
    """Return `names` unchanged. Raise `ValueError` if a name occurs twice."""
    duplicates = sorted({n for n in names if names.count(n) > 1})
    if duplicates:
        raise ValueError(f"given twice: {', '.join(duplicates)}")
    return names
