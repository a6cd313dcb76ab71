"""The command `unharm prompts show`: prints the exact prompts that subjects receive."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unharm.cli.common import JsonOption, SetOption, StudyArg
from unharm.core.arms import has_profile
from unharm.core.records import Profile, Subject
from unharm.core.terminal import tell

if TYPE_CHECKING:
    from unharm.benchmarks.benchmark import Mode
    from unharm.prompting.pack import Pack
    from unharm.study.spec import Study

prompts = typer.Typer(help="The prompts of a study.", no_args_is_help=True)


@prompts.command("show")
def show_prompts(
    study: StudyArg,
    profile: Annotated[
        str | None, typer.Option(help="The profile to show. Default: the first profile.")
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the exact prompt of every arm under every strategy, on harmless examples."""
    from unharm.prompting.compose import chat_form, system_message
    from unharm.prompting.pack import load_pack
    from unharm.report.profile_picture import find_profile
    from unharm.runs.base import load_tokenizer, resolve_base
    from unharm.runs.plan import profiles_of
    from unharm.study.check import load_study

    loaded = load_study(study, set_)
    profiles = profiles_of(loaded)
    if profile:
        profiles = [find_profile(profiles, profile)]
    chat = any(loaded.prompt_style(arm) == "chat" for arm in loaded.arms)
    tokenizer = load_tokenizer(resolve_base(loaded), loaded) if chat else None
    composed = compose_examples(loaded, load_pack(loaded.prompting.pack), profiles, tokenizer)
    if as_json:
        tell(json.dumps([asdict(prompt) for prompt in composed], ensure_ascii=False))
        return
    if tokenizer is not None:
        message = system_message(chat_form(load_pack(loaded.prompting.pack), loaded.prompting), tokenizer)
        tell(f"system message of every arm: {message or 'none'}")
    subject = ""
    for prompt in composed:
        if prompt.subject != subject:
            subject = prompt.subject
            tell(f"════ {subject}")
        tell(f"──── {', '.join(prompt.benchmarks)}")
        tell(prompt.text)
    tell("════")


EXAMPLES: dict[Mode, str] = {
    "continue": "On Sunday mornings the baker at the corner",
    "ask": "How do I keep bread fresh for longer?",
    "rate": "She waters the plants of her neighbours when they are away.",
}
"""A harmless prompt for each mode."""


@dataclass(frozen=True)
class ComposedExample:
    """A harmless prompt as a subject receives it, with the benchmarks that use its `mode`."""

    subject: str
    benchmarks: tuple[str, ...]
    mode: Mode
    text: str


def compose_examples(
    study: Study, pack: Pack, profiles: list[Profile], tokenizer: Any = None
) -> list[ComposedExample]:
    """Compose the harmless examples for every arm and strategy.

    Args:
        study: The study. Modes that none of its benchmarks uses are left out.
        pack: The wordings.
        profiles: Arms with profiles are shown with the first of these.
        tokenizer: The tokenizer of the base; needed for chat.
    """
    from unharm.benchmarks.registry import BENCHMARKS
    from unharm.prompting.compose import Composer, build_preamble, chat_form

    chosen, form = study.benchmarks.chosen(), chat_form(pack, study.prompting)
    composed = []
    for arm in study.arms:
        for strategy in study.strategies:
            subject = Subject(arm, profiles[0] if has_profile(arm) else None, strategy)
            preamble = build_preamble(pack, subject, study.prompting.set_aside_for("all", strategy))
            for mode, example in EXAMPLES.items():
                names = tuple(name for name in chosen if BENCHMARKS[name].mode == mode)
                if names:
                    composer = Composer(pack, preamble, mode, study.prompt_style(arm), tokenizer, form)
                    composed.append(ComposedExample(subject.label, names, mode, composer.text(example)))
    return composed
