"""The command `unharm prompts show`: what a subject receives, word for word."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unharm.cli.common import JsonOption, SetOption, StudyArg
from unharm.core.arms import has_profile
from unharm.core.records import Profile, Subject

if TYPE_CHECKING:
    from unharm.benchmarks.benchmark import Mode
    from unharm.prompting.pack import Pack
    from unharm.study.spec import Study

prompts = typer.Typer(help="The prompts of a study.", no_args_is_help=True)


@prompts.command("show")
def show_prompts(
    study: StudyArg,
    profile: Annotated[str | None, typer.Option(help="The profile to show (default: the first).")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print exactly what every arm receives under every strategy, on harmless examples."""
    from unharm.prompting.pack import load_pack
    from unharm.report.profile_picture import named
    from unharm.runs.base import load_tokenizer, resolve_base
    from unharm.runs.plan import profiles_of
    from unharm.study.check import load_study

    loaded = load_study(study, set_)
    profiles = profiles_of(loaded)
    if profile:
        profiles = [named(profiles, profile)]
    chat = any(loaded.style_of(arm) == "chat" for arm in loaded.arms)
    tokenizer = load_tokenizer(resolve_base(loaded), loaded) if chat else None
    found = shown(loaded, load_pack(loaded.prompting.pack), profiles, tokenizer)
    if as_json:
        print(json.dumps([asdict(s) for s in found], ensure_ascii=False))
        return
    subject = ""
    for one in found:
        if one.subject != subject:
            subject = one.subject
            print(f"════ {subject}")
        print(f"──── {', '.join(one.benchmarks)}")
        print(one.text)
    print("════")


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
    from unharm.benchmarks.registry import BENCHMARKS
    from unharm.prompting.compose import Composer, preamble_of

    chosen = study.benchmarks.chosen()
    found = []
    for arm in study.arms:
        for strategy in study.strategies:
            subject = Subject(arm, profiles[0] if has_profile(arm) else None, strategy)
            preamble = preamble_of(pack, subject, study.prompting.aside("all"))
            for mode, example in EXAMPLES.items():
                names = tuple(name for name in chosen if BENCHMARKS[name].mode == mode)
                if names:
                    compose = Composer(pack, preamble, mode, study.style_of(arm), tokenizer)
                    found.append(Shown(subject.label, names, mode, compose.text(example)))
    return found
