"""What is known of a family of guards: how it is asked, how its replies are read, what its categories mean.

A guard is a language model that reads a prompt and an answer and says whether the answer is safe. Prompts
come from the model's own chat template: a preset gives the messages and the template's arguments, and never
a copy of the template's text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from unharm.core.files.json_text import NotJson, parse_json
from unharm.scoring.thinking import without_thinking

Verdict = Literal["safe", "unsafe", "controversial"]
Message = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """A guard's reply that could be read.

    Attributes:
        verdict: What it says of the answer.
        at: Where the word of the verdict begins in the reply, in characters.
        categories: The kinds of harm that it names, by the names of the preset.
        unknown: Names of kinds that the preset does not know.
        refusal: Whether the answer refuses; None where the guard does not say.
    """

    verdict: Verdict
    at: int
    categories: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    refusal: bool | None = None


@dataclass(frozen=True)
class Criterion:
    """A question that a guard answers by itself, where it is asked one at a time."""

    name: str
    text: str


@dataclass(frozen=True)
class Preset:
    """How one family of guards is used.

    Attributes:
        name: Its name in a study.
        models: Hub ids of the models that it was written for.
        licence: The licence of the weights.
        architectures: `architectures` of the models' configurations.
        messages: From prompt, answer and criterion to the messages for the chat template.
        read: From a reply without reasoning to what it says; None where it is not in the guard's form.
        words: The words of the verdict, for its probability.
        max_tokens: The length of a reply at most, reasoning included.
        template_arguments: From a criterion to arguments of the chat template.
        criteria: Questions that are asked one by one; an answer is unsafe where any of them says so.
        categories: The guard's names of harm.
        maps: By benchmark, from the guard's names to the benchmark's categories.
        says_refusal: Whether it says if the answer refuses.
        schema: A JSON schema of its reply, for servers that hold a reply to one.
        instruction: The guard whose instruction the package any-guardrail has; empty where the model's chat
            template is all that is needed.
        version: Raised when the same text would be asked about in another way.
        note: What users should know.
    """

    name: str
    models: tuple[str, ...]
    licence: str
    architectures: tuple[str, ...]
    messages: Callable[[str, str, Criterion | None], list[Message]]
    read: Callable[[str], Reading | None]
    words: Mapping[str, Verdict]
    max_tokens: int
    template_arguments: Callable[[Criterion | None], dict[str, Any]] = lambda criterion: {}
    criteria: tuple[Criterion, ...] = ()
    categories: tuple[str, ...] = ()
    maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    says_refusal: bool = False
    schema: Mapping[str, Any] | None = None
    instruction: str = ""
    version: int = 1
    note: str = ""

    def reading(self, reply: str) -> Reading | None:
        """Read a whole reply: strip the reasoning, then the guard's own form."""
        rest, offset = without_thinking(reply)
        reading = self.read(rest) if rest else None
        if reading is None:
            return None
        return replace(reading, at=reading.at + offset)


def conversation(prompt: str, answer: str, criterion: Criterion | None = None) -> list[Message]:
    """Return the exchange as a user's message and an assistant's."""
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def split_names(text: str, known: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a list of categories into known names, which may have commas, and unknown ones."""
    names: list[str] = []
    rest = text
    for name in sorted(known, key=len, reverse=True):
        pattern = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])", re.IGNORECASE)
        if pattern.search(rest):
            names.append(name)
            rest = pattern.sub("", rest)
    unknown = [part.strip() for part in rest.split(",") if part.strip(" .;-")]
    return tuple(n for n in known if n in names), tuple(unknown)


def field_of(reply: str, name: str, values: tuple[str, ...]) -> re.Match[str] | None:
    """Find the one line `name: value`; None where there is none, or lines that contradict each other."""
    pattern = re.compile(
        rf"^[ \t]*{re.escape(name)}:[ \t]*(?P<value>[\w/]+)[ \t]*\.?[ \t]*\r?$", re.M | re.I
    )
    matches = [m for m in pattern.finditer(reply) if m["value"].lower() in values]
    if not matches or len(matches) < len(re.findall(rf"^[ \t]*{re.escape(name)}:", reply, re.M | re.I)):
        return None
    return matches[0] if len({m["value"].lower() for m in matches}) == 1 else None


def json_object(reply: str) -> dict[str, Any] | None:
    """Read a reply that is one JSON object, perhaps in a code block."""
    block = re.fullmatch(r"\s*```(?:json)?\s*\n(.*)\n```\s*", reply, re.DOTALL)
    try:
        data = parse_json(block[1] if block else reply)
    except NotJson:
        return None
    return data if isinstance(data, dict) else None
