"""Arms and strategies: the ways in which a subject is made and prompted."""

from __future__ import annotations

VIM_STAGES: dict[str, tuple[str, ...]] = {
    "vim": ("ag", "qa"),
    "vim-ag": ("ag",),
    "vim-qa": ("qa",),
}
"""The training stages of each value-injection arm, in order (AG: argument generation,
QA: question answering)."""

BENIGN_SETS: tuple[str, ...] = ("alpaca", "dolly", "grammar", "samsum")

ARMS: tuple[str, ...] = ("vanilla", "icl", *VIM_STAGES, *(f"benign:{s}" for s in BENIGN_SETS))

STRATEGIES: tuple[str, ...] = ("input-only", "safety", "value", "dual")


def has_profile(arm: str) -> bool:
    """Whether an arm is made once per profile (value injection, in-context)."""
    return arm == "icl" or arm in VIM_STAGES


def benign_set(arm: str) -> str:
    """The instruction set of a `benign:<set>` arm, else an empty string."""
    return arm.partition(":")[2] if arm.startswith("benign:") else ""


def own_adapter(arm: str) -> str:
    """The name of an adapter made elsewhere, of an `adapter:<name>` arm, else an empty string."""
    return arm.partition(":")[2] if arm.startswith("adapter:") else ""


def served_model(arm: str) -> str:
    """The name of a model on a server, of a `served:<name>` arm, else an empty string."""
    return arm.partition(":")[2] if arm.startswith("served:") else ""


def has_adapter(arm: str) -> bool:
    """Whether an arm is the base with an adapter."""
    return arm in VIM_STAGES or bool(benign_set(arm) or own_adapter(arm))
