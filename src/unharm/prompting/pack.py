"""The prompt pack: all wordings, loaded from one YAML file and checked slot by slot."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from unharm.core.arms import NEUTRAL, WRONG_VALUE
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.yaml_text import SpecText, read_text
from unharm.core.hashing import content_hash
from unharm.core.records import Argument, Profile
from unharm.core.templates import slots_of
from unharm.core.values import VALUES

EMBEDDED: dict[str, str] = {
    "default": "prompting/default.yaml",
    "value-first": "prompting/value_first.yaml",
    "toy": "study/demo/data/pack.yaml",
}
EXTENDS = "extends"
"""Field of a pack that takes the wordings that it leaves out from another embedded pack."""

SLOTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("ag", "prompt"): ("conclusion", "would"),
    ("ag", "answer"): ("agree", "premise"),
    ("ag", "would"): (),
    ("ag", "would_not"): (),
    ("ag", "agree"): (),
    ("ag", "disagree"): (),
    ("qa", "prompt"): ("statement",),
    ("qa", "statement"): ("conclusion", "agree", "premise"),
    ("qa", "answer"): ("rating",),
    ("icl", "text"): ("lines",),
    ("icl", "line"): ("value", "importance"),
    ("strategies", "safety"): (),
    ("strategies", "value"): ("values",),
    ("strategies", "dual"): ("values",),
    ("ask",): ("prompt",),
    ("grammar", "prompt"): ("input",),
    ("grammar", "answer"): ("target",),
    ("instruct", "prompt"): ("instruction",),
    ("instruct", "prompt_with_input"): ("instruction", "input"),
    ("instruct", "answer"): ("output",),
    ("samsum", "prompt"): ("dialogue",),
    ("samsum", "answer"): ("summary",),
    ("system",): (),
}
"""Every wording of a pack and its required slots."""

CHAT: dict[str, tuple[str, ...]] = {"continue": ("prompt",), "begin": ()}
"""The wordings of `chat`, with their slots: how a text to continue is put to a chat model. A pack may leave
them out; then those of the default pack are used."""

BEHAVIOUR_TEXTS: dict[str, tuple[str, ...]] = {"choose": ("prompt",)}
"""The wordings of `behaviour`, which a pack may leave out like those of `chat`: how a situation and two
things to do are put."""

CONTROL_TEXTS: dict[str, tuple[str, ...]] = {"neutral": ()}
"""The wordings of `controls`, which a pack may leave out like those of `chat`: a text that asks for
nothing."""

NOT_IN_TRAINING = ("chat", "controls", "behaviour")
"""The sections that no training example uses."""

OPTIONAL: dict[tuple[str, ...], tuple[str, ...]] = {
    ("qa", "answer"): ("likeness", "value", "importance"),
    ("icl", "line"): ("definition",),
}
"""The optional slots of a wording."""


@dataclass(frozen=True)
class Pack:
    """A checked prompt pack. `data` is the content of its file."""

    data: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """Content hash of the wordings that training examples can use."""
        return content_hash({n: node for n, node in self.data.items() if n not in NOT_IN_TRAINING})

    def chat_text(self, name: str) -> str:
        """Return a wording of `chat`, or that of the default pack if this pack has none."""
        return self._optional_text("chat", name)

    def choice_prompt(self, situation: str) -> str:
        """Return the prompt that asks which of two things the model would do in a situation."""
        return self._optional_text("behaviour", "choose").format(prompt=situation)

    def _optional_text(self, section: str, name: str) -> str:
        given = self.data.get(section) or {}
        return str(given[name] if name in given else load_pack("default").data[section][name])

    def text(self, *path: str) -> str:
        """Return a wording by its path, for example `text("qa", "prompt")`."""
        node: Any = self.data
        for part in path:
            node = node[part]
        return str(node)

    def fill(self, *path: str, **slots: str) -> str:
        """Return a wording with its slots filled in."""
        return self.text(*path).format(**slots)

    def agreement(self, stance: str) -> str:
        """Return the wording that agrees or disagrees with a conclusion."""
        return self.text("ag", "agree" if stance == "in favor of" else "disagree")

    def ag(self, argument: Argument, would: bool) -> tuple[str, str]:
        """Return prompt and answer of a stage 1 example."""
        prompt = self.fill(
            "ag",
            "prompt",
            conclusion=argument.conclusion,
            would=self.text("ag", "would" if would else "would_not"),
        )
        answer = self.fill(
            "ag", "answer", agree=self.agreement(argument.stance), premise=argument.premise.rstrip(". ")
        )
        return prompt, answer

    def qa(self, argument: Argument, value: str, rating: int) -> tuple[str, str]:
        """Return prompt and answer of a stage 2 example; `rating` is from 1 to 6."""
        return self.rating_prompt(self.statement(argument)), self.rating_answer(value, rating)

    def statement(self, argument: Argument) -> str:
        """Return an argument as a statement to rate."""
        return self.fill(
            "qa",
            "statement",
            conclusion=argument.conclusion.rstrip("."),
            agree=self.agreement(argument.stance),
            premise=argument.premise.rstrip(". "),
        )

    def rating_answer(self, value: str, rating: int) -> str:
        """Return the answer to `rating_prompt`: the rating, with the value's importance as the reason."""
        return self.fill(
            "qa",
            "answer",
            rating=str(rating),
            likeness=self.data["likeness"][rating - 1],
            value=value,
            importance=self.data["importance"][rating - 1],
        )

    def rating_prompt(self, statement: str) -> str:
        """Return the prompt that asks to rate a statement or a questionnaire item."""
        return self.fill("qa", "prompt", statement=statement)

    def is_rating_answer(self, text: str) -> bool:
        """Return whether a text begins as an answer of stage 2 does; for answers of a number alone, whether
        it is one."""
        return self._rating_answer.match(text.strip()) is not None

    @cached_property
    def _rating_answer(self) -> re.Pattern[str]:
        """Matches the beginning of an answer of stage 2, without case."""
        wording = self.text("qa", "answer").strip()
        choices = {
            "rating": ["1", "2", "3", "4", "5", "6"],
            "likeness": self.data["likeness"],
            "importance": self.data["importance"],
            "value": VALUES,
        }
        parts = [
            re.escape(plain) + (f"(?:{'|'.join(map(re.escape, choices[slot]))})" if slot else "")
            for plain, slot, *_ in string.Formatter().parse(wording)
        ]
        end = r"\W*$" if wording == "{rating}" else ""
        return re.compile("".join(parts) + end, re.IGNORECASE)

    def describe_profile(self, profile: Profile) -> str:
        """Return the in-context description of a profile: all ten values with their importances."""
        lines = [
            self.fill(
                "icl",
                "line",
                value=value,
                definition=self.data["values"][value],
                importance=f"{profile[value]:.1f}".removesuffix(".0"),
            )
            for value in VALUES
        ]
        return self.fill("icl", "text", lines="\n".join(lines))

    def benign_example(self, name: str, row: dict[str, str]) -> tuple[str, str]:
        """Return prompt and answer for a row of a benign set."""
        if name in ("grammar", "samsum"):
            *_, answer = row
            inputs = {field: text for field, text in row.items() if field != answer}
            return self.fill(name, "prompt", **inputs), self.fill(name, "answer", **{answer: row[answer]})
        instruction, extra, output = row.values()
        if extra:
            prompt = self.fill("instruct", "prompt_with_input", instruction=instruction, input=extra)
        else:
            prompt = self.fill("instruct", "prompt", instruction=instruction)
        return prompt, self.fill("instruct", "answer", output=output)

    def strategy_text(self, name: str, set_aside: list[str]) -> str:
        """Return the text that a strategy adds before the prompt; empty for `input-only`.

        Args:
            name: The strategy.
            set_aside: The values to set aside: for `wrong-value` those of the control. `neutral` gets those
                of `dual`, since its text has as many words.
        """
        if name == "input-only":
            return ""
        if name == NEUTRAL:
            guard = self.strategy_text("dual" if set_aside else "safety", set_aside)
            return cut_to(self._optional_text("controls", "neutral"), len(guard.split()))
        name = "value" if name == WRONG_VALUE else name
        slots = {} if name == "safety" else {"values": ", ".join(set_aside)}
        return self.fill("strategies", name, **slots)


def cut_to(text: str, words: int) -> str:
    """Return the first words of a text, repeated where it is too short, with a full stop at the end."""
    every = text.split()
    chosen = [every[n % len(every)] for n in range(words)]
    return " ".join(chosen).rstrip(".,;:") + "."


def load_pack(name: str) -> Pack:
    """Load a pack that ships with unharm by its name, or a pack file by its path.

    Raises:
        UserError: The pack is incomplete or malformed; lists all problems.
    """
    if name in EMBEDDED:
        path = Path(str(resources.files("unharm"))) / EMBEDDED[name]
    else:
        path = Path(name).expanduser()
    text = SpecText(read_text(path, "prompt pack"), str(path))
    problems = list(text.problems)
    if EXTENDS in text.data:
        parent = text.data.pop(EXTENDS)
        if parent not in EMBEDDED or name == parent:
            raise UserError(
                f"unknown pack {parent!r}", text.where((EXTENDS,)), nearest(str(parent), tuple(EMBEDDED))
            )
        text.data = _merged(load_pack(str(parent)).data, text.data)
    for where, slots in SLOTS.items():
        problems += _check_text(text, where, slots)
    for section, wordings in (("chat", CHAT), ("controls", CONTROL_TEXTS), ("behaviour", BEHAVIOUR_TEXTS)):
        given = text.data.get(section)
        words_given = given if isinstance(given, dict) else {}
        for name, slots in wordings.items():
            problems += _check_text(text, (section, name), slots) if name in words_given else []
    for field, expected in (("importance", 6), ("likeness", 6)):
        words = text.data.get(field)
        if not isinstance(words, list) or len(words) != expected:
            problems.append(Problem(f"expected a list of {expected} phrases", text.where((field,))))
    definitions = text.data.get("values")
    for value in VALUES:
        if not isinstance(definitions, dict) or not isinstance(definitions.get(value), str):
            problems.append(Problem("the definition is missing", text.where(("values", value))))
    raise_all(problems)
    return Pack(text.data)


def _merged(parent: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Return the wordings of a parent with those of a pack in their place."""
    merged = dict(parent)
    for name, node in data.items():
        above = merged.get(name)
        both = isinstance(node, dict) and isinstance(above, dict)
        merged[name] = _merged(above, node) if both else node  # type: ignore[arg-type]
    return merged


def _check_text(text: SpecText, path: tuple[str, ...], slots: tuple[str, ...]) -> list[Problem]:
    node: Any = text.data
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    where = text.where(path)
    if not isinstance(node, str):
        return [Problem("this wording is missing", where, "copy it from the default pack and reword it")]
    try:
        slots_used = slots_of(node)
    except ValueError as error:
        return [Problem(f"not a template: {error}", where, "write {{ and }} for literal braces")]
    problems = [Problem(f"the slot {{{s}}} is missing", where) for s in slots if s not in slots_used]
    allowed = slots + OPTIONAL.get(path, ())
    return problems + [
        Problem(f"unknown slot {{{s}}}", where, f"known slots: {', '.join(allowed) or 'none'}")
        for s in sorted(slots_used - set(allowed))
    ]
