"""The command `unharm show`: what every arm answered to one prompt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unharm.cli.common import JsonOption, RunArg
from unharm.core.terminal import tell

if TYPE_CHECKING:
    from unharm.runs.handle import RunHandle

HIDDEN = "[hidden: --reveal shows it]"


def show(
    folder: RunArg,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="ID", help="The prompt; left out: list the ids.")
    ] = None,
    benchmark: Annotated[str | None, typer.Option(help="Only prompts of this benchmark.")] = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the texts: they may be harmful.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what every arm answered to one prompt, with its scores. Texts are hidden without --reveal."""
    from unharm.runs.handle import open_handle

    run = open_handle(folder)
    if prompt is None:
        _list_prompts(run, benchmark, as_json)
        return
    text = run.prompt_text(prompt, benchmark) if reveal else HIDDEN
    rows = run.prompt(prompt, benchmark).to_dicts()
    for row in rows:
        if not reveal:
            row["text"] = HIDDEN if row["text"] else ""
    if as_json:
        tell(json.dumps({"prompt": prompt, "text": text, "answers": rows}, ensure_ascii=False))
        return
    tell(f"{prompt}: {one_line(text)}")
    subject = None
    for row in rows:
        label = " · ".join(row[c] for c in ("arm", "profile", "strategy") if row[c])
        label += "" if row["seed"] is None else f" · seed {row['seed']}"
        if label != subject:
            tell(label)
            subject = label
        tell(f"  {row['sample']}  {_scores(row)}  {one_line(row['text'])}")


def _list_prompts(run: RunHandle, benchmark: str | None, as_json: bool) -> None:
    names = [benchmark] if benchmark else list(run.study.benchmarks.chosen())
    ids = {name: [p.id for p in run.prompts(name)] for name in names}
    if as_json:
        tell(json.dumps(ids))
        return
    for name, prompt_ids in ids.items():
        tell(f"{name}: {len(prompt_ids):,} prompts")
        for identity in prompt_ids:
            tell(f"  {one_line(identity)}")


def _scores(row: dict[str, Any]) -> str:
    """Format the score of each scorer; a dash if there is none."""
    known = ("arm", "profile", "strategy", "seed", "sample", "text", "status")
    scores = {name: value for name, value in row.items() if name not in known}
    return ", ".join(f"{name} {'–' if value is None else f'{value:.3g}'}" for name, value in scores.items())


def one_line(text: str) -> str:
    """Return the text on one line, without control characters that could affect the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
