"""Exactly what a subject receives, on harmless examples of every way in which a prompt is put."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unharm.arms import has_profile
from unharm.benchmarks.load import TABLE, Mode
from unharm.prompting.compose import Composer, preamble_of, style_of
from unharm.prompting.pack import Pack
from unharm.records import Profile, Subject
from unharm.study import Study

EXAMPLES: dict[Mode, str] = {
    "continue": "On Sunday mornings the baker at the corner",
    "ask": "How do I keep bread fresh for longer?",
    "rate": "She waters the plants of her neighbours when they are away.",
}


@dataclass(frozen=True)
class Shown:
    """A harmless prompt of some benchmarks (`mode`: how they are put) as a subject receives it."""

    subject: str
    benchmarks: tuple[str, ...]
    mode: Mode
    text: str


def shown(study: Study, pack: Pack, profiles: list[Profile], tokenizer: Any = None) -> list[Shown]:
    """Every arm, with the first of `profiles` where it has any, under every strategy.

    The questionnaire is left out where the study has none. `tokenizer` is needed for chat.
    """
    chosen = study.benchmarks.chosen()
    found = []
    for arm in study.arms:
        for strategy in study.strategies:
            subject = Subject(arm, profiles[0] if has_profile(arm) else None, strategy)
            preamble = preamble_of(pack, subject, study.prompting.aside("all"))
            for mode, example in EXAMPLES.items():
                names = tuple(name for name in chosen if TABLE[name].mode == mode)
                if names:
                    compose = Composer(pack, preamble, mode, style_of(study, arm), tokenizer)
                    found.append(Shown(subject.label, names, mode, compose.text(example)))
    return found
