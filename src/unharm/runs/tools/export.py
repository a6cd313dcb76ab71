"""The model card of an exported adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError
from unharm.core.records import Profile
from unharm.core.values import VALUES
from unharm.runs import keys
from unharm.runs.adapters import adapter_tasks
from unharm.runs.base import Base
from unharm.runs.context import Run
from unharm.study.spec import Study
from unharm.training.settings import Recipe


def model_card(
    marker: dict[str, Any], study: Study, recipe: Recipe, base: Base, profile: Profile | None
) -> str:
    """Markdown: what the adapter is, what it learnt, and on what base. `marker` is the one of the
    adapter in its run folder."""
    lora, best = study.training.lora, marker["best_epoch"]
    name = f"{marker['arm']}: {profile.name}" if profile else str(marker["arm"])
    where = f"at revision `{base.revision}`" if base.revision else f"(content `{base.key}`)"
    kept = f"epoch {best} of {recipe.epochs}"
    if marker["valid_loss"]:
        kept += f", validation loss {marker['valid_loss'][best - 1]:.4f} nats per token"
    rows = [
        ("arm", f"`{marker['arm']}`, stage `{marker['stage']}`"),
        ("examples", f"{marker['examples']:,}; {marker['left_out_too_long']:,} were too long and left out"),
        (
            "LoRA",
            f"r {lora.r}, alpha {lora.alpha:g}, dropout {lora.dropout:g} on {', '.join(lora.targets)}",
        ),
        (
            "recipe",
            f"AdamW, learning rate {recipe.lr:g} with linear decay, weight decay {recipe.weight_decay:g}, "
            f"batch {recipe.batch} × {recipe.accumulate}",
        ),
        ("kept", kept),
        ("data", f"fidelity {study.fidelity}, format {study.prompting.format}, seed {study.seed}"),
        ("base", f"`{base.name}` {where}"),
    ]
    if profile:
        rows += [(value, f"{profile[value]:g} of 6") for value in VALUES]
    text = ["---", "library_name: peft", f"base_model: {json.dumps(base.name)}", "tags: [lora, unharm]"]
    text += ["---", f"# {name}", ""]
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


def export_adapters(run: Run, folder: Path) -> list[Path]:
    """Copies the study's own adapters, named by arm, profile and content, with model cards.

    Raises `UserError` where the folder cannot be written.
    """
    made = []
    for task in adapter_tasks(run).trained:
        marker, adapter = run.store.marker(task.artefact), task.plan
        if marker is None:
            continue
        source = run.store.root / str(marker["path"])
        target = folder / f"{keys.folder(adapter.arm, adapter.profile_name)}--{source.name[:12]}"
        try:
            shutil.copytree(source, target, dirs_exist_ok=True)
            card = model_card(marker, run.study, run.plan.recipe(adapter), run.base, adapter.profile)
            (target / "README.md").write_text(card, encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write here: {error.strerror or error}", str(target), "") from None
        made.append(target)
    return made
