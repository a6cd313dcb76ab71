"""The command `unharm prompts show`: what a subject receives, word for word."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from unharm.cli_common import JsonOption, SetOption, StudyArg

prompts = typer.Typer(help="The prompts of a study.", no_args_is_help=True)


@prompts.command("show")
def show_prompts(
    study: StudyArg,
    profile: Annotated[str | None, typer.Option(help="The profile to show (default: the first).")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print exactly what every arm receives under every strategy, on harmless examples."""
    from unharm.models import load_tokenizer, resolve_base
    from unharm.profiles.picture import named
    from unharm.profiles.select import select_profiles
    from unharm.prompting.compose import style_of
    from unharm.prompting.pack import load_pack
    from unharm.prompting.show import shown
    from unharm.study_check import load_study

    loaded = load_study(study, set_)
    profiles = select_profiles(loaded)
    if profile:
        profiles = [named(profiles, profile)]
    chat = any(style_of(loaded, arm) == "chat" for arm in loaded.arms)
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
