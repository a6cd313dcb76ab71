"""Export of adapters with model cards."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError
from unharm.core.printable import printable
from unharm.core.records import Profile
from unharm.core.values import VALUES
from unharm.runs import keys
from unharm.runs.adapters import AdapterTask, adapter_tasks
from unharm.runs.base import Base
from unharm.runs.context import Run
from unharm.study.spec import Study
from unharm.training.settings import Recipe


def plain(text: str) -> str:
    """Return a text that Markdown and HTML show as it is: a name must not become a link or a script."""
    escaped = html.escape(printable(text, lines=False))
    return re.sub(r"[\\`*_\[\]()#!|~]", lambda match: f"&#{ord(match[0])};", escaped)


def model_card(
    marker: dict[str, Any], study: Study, recipe: Recipe, base: Base, profile: Profile | None
) -> str:
    """Return a model card in Markdown: arm, training data, recipe and base.

    Args:
        marker: The marker of the adapter in its run folder.
        study: The study that trained it.
        recipe: Its training recipe.
        base: Its base.
        profile: Its profile, if it has one.
    """
    lora, best, scale = study.training.lora, marker["best_epoch"], float(marker.get("scale", 1))
    name = f"{marker['arm']}: {profile.name}" if profile else str(marker["arm"])
    version = f"at revision `{base.revision}`" if base.revision else f"(content `{base.key}`)"
    epoch_kept = f"epoch {best} of {recipe.epochs}"
    if marker["valid_loss"]:
        epoch_kept += f", validation loss {marker['valid_loss'][best - 1]:.4f} nats per token"
    rows = [
        ("arm", f"`{marker['arm']}`, stage `{marker['stage']}`"),
        ("examples", f"{marker['examples']:,}; {marker['left_out_too_long']:,} were too long and left out"),
        (
            "LoRA",
            f"r {lora.r}, alpha {lora.alpha * scale:g}, dropout {lora.dropout:g} on "
            f"{', '.join(lora.targets)}" + ("" if scale == 1 else f"; multiplied by {scale:g}"),
        ),
        (
            "recipe",
            f"AdamW, learning rate {recipe.lr:g} with linear decay, weight decay {recipe.weight_decay:g}, "
            f"batch {recipe.batch} × {recipe.accumulate}",
        ),
        ("kept", epoch_kept),
        (
            "data",
            f"fidelity {study.fidelity}, format {study.prompting.format}"
            + (f", system message {study.prompting.system}, " if study.prompting.format == "chat" else ", ")
            + f"seed {marker.get('seed', study.seed)}",
        ),
        ("base", f"`{base.name}` {version}"),
    ]
    if profile:
        rows += [(value, f"{profile[value]:g} of 6") for value in VALUES]
    text = ["---", "library_name: peft", f"base_model: {json.dumps(base.name)}", "tags: [lora, unharm]"]
    text += ["---", f"# {plain(name)}", ""]
    text += [
        f"A LoRA adapter of `{base.name}`, made by the study `{study.name}` with unharm to measure "
        "side effects of aligning a model. It may make the base say harmful things; do not deploy it.",
        "",
        "| | |",
        "|---|---|",
    ]
    text += [f"| {left} | {right} |" for left, right in rows]
    text += ["", "Load it with `PeftModel.from_pretrained(base, folder)`.", ""]
    return "\n".join(text)


def named_adapters(run: Run) -> dict[str, AdapterTask]:
    """Return the trained adapters of a run and their doses by the name of their exported folder: arm,
    profile, seed and hash."""
    tasks = adapter_tasks(run)
    named = {}
    for task in [*tasks.trained, *(t for t in tasks.doses if t.full in tasks.trained)]:
        marker, plan = run.store.marker(task.artefact), task.plan
        if marker is not None:
            content = Path(str(marker["path"])).name[:12]
            named[f"{keys.folder(plan.arm, plan.profile_name, seed=plan.seed)}--{content}"] = task
    return named


def export_adapters(run: Run, folder: Path) -> list[Path]:
    """Copy the trained adapters and their doses to a folder, with model cards.

    They are named as in `named_adapters`.

    Returns:
        The new folders.

    Raises:
        UserError: The folder cannot be written.
    """
    exported = []
    for name, task in named_adapters(run).items():
        marker, adapter, target = run.store.marker(task.artefact), task.plan, folder / name
        assert marker is not None
        try:
            shutil.copytree(run.store.root / str(marker["path"]), target, dirs_exist_ok=True)
            card = model_card(marker, run.study, run.plan.recipe(adapter), run.base, adapter.profile)
            (target / "README.md").write_text(card, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write here: {error.strerror or error}", str(target), "") from None
        exported.append(target)
    return exported
