"""Cards of value vectors and shifts, in Markdown. They name no study, so that equal tensors stay equal."""

from __future__ import annotations

import json
from typing import Any

from unharm.core.records import Profile
from unharm.core.values import VALUES
from unharm.runs.base import Base
from unharm.runs.tools.export import plain
from unharm.training.steering.vectors import ValueVectors

MADE: dict[str, str] = {
    "mean": "mean activation of statements that carry the value, less that of all others",
    "probe": "normal of a logistic separation of statements that carry the value from all others",
    "caa-prompt": "mean activation of the same statements after a description of a person to whom the "
    "value is all, less that after one to whom it is nothing",
}
"""How each variant of value vectors is made."""


def vectors_card(base: Base, variant: str, made: ValueVectors) -> str:
    """Return the card of value vectors: how they were made, of how many texts, for which base."""
    values, layers, hidden = made.vectors.shape
    rows = [(value, "{:,} and {:,} texts".format(*made.counts[value])) for value in VALUES]
    return _card(
        f"Value vectors: {variant}",
        base,
        f"Unit directions of the residual stream after each decoder layer: {MADE[variant]}. "
        f"`vectors.safetensors` holds `vectors` [{values} values, {layers} layers, {hidden}], in the order "
        f"of the table, and `scale` [{layers}], the mean length of the residual stream.",
        rows,
    )


def shift_card(base: Base, arm: str, profile: Profile, chosen: dict[str, Any]) -> str:
    """Return the card of a profile's shift: layer, strength, perplexity, importances."""
    rows = [
        ("layer", f"{chosen['layer']}, counted from 0; the output of this layer is shifted at every token"),
        ("strength", f"{chosen['strength']:g}"),
        ("perplexity of neutral text", _perplexity(chosen["perplexity"])),
        *((value, f"{profile[value]:g} of 6") for value in VALUES),
    ]
    return _card(
        f"{arm}: {profile.name}",
        base,
        "A shift of the residual stream, `direction` [layers, hidden] in `steering.safetensors`, made with "
        "unharm to measure side effects of aligning a model. It may make the base say harmful things; do "
        "not deploy it.",
        rows,
    )


def harm_card(base: Base, harmful: int, harmless: int) -> str:
    """Return the card of a harm direction."""
    return _card(
        "Harm direction",
        base,
        "Unit direction from harmless to harmful prompts after each decoder layer, `direction` [layers, "
        "hidden] in `steering.safetensors`: the difference of mean activations over the prompts' tokens.",
        [("harmful prompts", f"{harmful:,}"), ("harmless prompts", f"{harmless:,}")],
    )


def _card(title: str, base: Base, text: str, rows: list[tuple[str, str]]) -> str:
    version = f"at revision `{base.revision}`" if base.revision else f"(content `{base.key}`)"
    lines = ["---", f"base_model: {json.dumps(base.name)}", "tags: [steering, unharm]", "---"]
    lines += [
        f"# {plain(title)}",
        "",
        text,
        "",
        "| | |",
        "|---|---|",
        f"| base | {plain(base.name)} {version} |",
    ]
    lines += [f"| {left} | {right} |" for left, right in rows]
    return "\n".join([*lines, ""])


def _perplexity(ratio: float | None) -> str:
    return "not known" if ratio is None else f"{ratio:.2f} times the base's, when it was chosen"
