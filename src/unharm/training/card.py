"""The model card of an exported adapter."""

from __future__ import annotations

import json
from typing import Any

from unharm.models import Base
from unharm.records import Profile
from unharm.study import Study
from unharm.training.recipe import Recipe
from unharm.values import VALUES


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
