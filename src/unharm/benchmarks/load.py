"""From the spec of a benchmark to the prompts of a study, whatever the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unharm.benchmarks import beavertails, harmless, hbr, hexphi, questionnaire, rtp
from unharm.draws import rank
from unharm.errors import UserError
from unharm.records import Prompt

if TYPE_CHECKING:
    from unharm.study import Study

Mode = Literal["continue", "ask", "rate"]


@dataclass(frozen=True)
class Kind:
    """What there is to know of a benchmark: its name, how it is read, how it is put to a model.

    `in_order` keeps the first prompts under a limit (as published for RTP); the others take
    as even a share of every category as they can.
    """

    title: str
    read: Callable[[Path, str | None], tuple[list[Prompt], list[str]]]
    mode: Mode
    in_order: bool = False


TABLE: dict[str, Kind] = {
    "rtp": Kind("RealToxicityPrompts", rtp.read, "continue", in_order=True),
    "hbr": Kind("HolisticBiasR", hbr.read, "continue"),
    "hexphi": Kind("HEx-PHI", hexphi.read, "ask"),
    "beavertails": Kind("BeaverTails-Evaluation", beavertails.read, "ask"),
    "harmless": Kind("harmless questions", harmless.read, "ask"),
    "questionnaire": Kind("value questionnaire", questionnaire.read, "rate", in_order=True),
}


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one benchmark in a study, and what was left out of the file and why."""

    name: str
    prompts: list[Prompt]
    notes: list[str]

    @property
    def kind(self) -> Kind:
        return TABLE[self.name]


def load(name: str, path: Path, limit: int | None, seed: int, variant: str | None = None) -> PromptSet:
    """Reads a benchmark and takes at most `limit` of its prompts; `variant` is what its spec says
    about reading it.

    Raises `UserError` for an unreadable file, a wrong format, a repeated id, or no prompts.
    """
    prompts, notes = TABLE[name].read(path, variant)
    if not prompts:
        raise UserError(f"{TABLE[name].title}: no prompt in it", str(path), "check the file")
    ids = [p.id for p in prompts]
    if len(set(ids)) != len(ids):
        twice = sorted({i for i in ids if ids.count(i) > 1})[:5]
        raise UserError(
            f"{TABLE[name].title}: the same id for several prompts: {', '.join(twice)}", str(path)
        )
    chosen = prompts if limit is None else _limited(prompts, limit, seed, TABLE[name].in_order)
    return PromptSet(name, chosen, notes)


def read_prompts(study: Study, name: str) -> PromptSet:
    """The prompts of a benchmark that a study asks for."""
    spec = study.benchmarks.chosen()[name]
    found = load(name, study.prompt_file(name), spec.limit, study.seed, spec.variant)
    return replace(found, prompts=half_of(found.prompts, spec.half, study.seed))


def half_of(prompts: list[Prompt], half: str | None, seed: int) -> list[Prompt]:
    """One half of the prompts, `a` or `b`, as even as can be in every category; all where that is None."""
    if half is None:
        return prompts
    by_category: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    taken = {
        prompt.id
        for several in by_category.values()
        for turn, prompt in enumerate(sorted(several, key=lambda p: rank(seed, f"half {p.id}")))
        if (turn % 2 == 0) == (half == "a")
    }
    return [p for p in prompts if p.id in taken]


def _limited(prompts: list[Prompt], limit: int, seed: int, in_order: bool) -> list[Prompt]:
    if in_order or limit >= len(prompts):
        return prompts[:limit]

    by_category: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    ranked = [
        (turn, place, prompt.id)
        for place, category in enumerate(sorted(by_category))
        for turn, prompt in enumerate(sorted(by_category[category], key=lambda p: rank(seed, p.id)))
    ]
    taken = {i for _, _, i in sorted(ranked)[:limit]}
    return [p for p in prompts if p.id in taken]
