"""Names of the arms (how a model is made) and strategies (how it is prompted)."""

from __future__ import annotations

VIM_STAGES: dict[str, tuple[str, ...]] = {
    "vim": ("ag", "qa"),
    "vim-ag": ("ag",),
    "vim-qa": ("qa",),
}
"""Training stages of each value-injection arm, in order. AG: argument generation; QA: question
answering."""

BENIGN_SETS: tuple[str, ...] = ("alpaca", "dolly", "grammar", "samsum")

STEERING: tuple[str, ...] = ("mean", "probe", "caa-prompt")
"""How the value vectors of a `steer:<variant>` arm are made: differences of means, logistic probes, or
differences between in-context descriptions."""

ARMS: tuple[str, ...] = (
    "vanilla",
    "icl",
    *VIM_STAGES,
    *(f"steer:{variant}" for variant in STEERING),
    *(f"benign:{s}" for s in BENIGN_SETS),
)

GUARDS: tuple[str, ...] = ("safety", "value", "dual")
"""Strategies that are meant to lower harm."""

WRONG_VALUE, NEUTRAL = "wrong-value", "neutral"
CONTROLS: tuple[str, ...] = (WRONG_VALUE, NEUTRAL)
"""Strategies that guards are compared with: `wrong-value` sets aside values that do not go with the harm,
in the words of `value`; `neutral` is a text without any instruction, as long as that of `dual`."""

MATCHED_CONTROLS: dict[str, str] = {"safety": NEUTRAL, "value": WRONG_VALUE, "dual": NEUTRAL}
"""The control that each guard is compared with by category."""

STRATEGIES: tuple[str, ...] = ("input-only", *GUARDS, *CONTROLS)


def has_profile(arm: str) -> bool:
    """Return whether an arm has one model per profile (value injection, in-context, steering)."""
    return arm == "icl" or arm in VIM_STAGES or bool(steering(arm))


def steering(arm: str) -> str:
    """Return the variant of a `steer:<variant>` arm, or an empty string for other arms."""
    return arm.partition(":")[2] if arm.startswith("steer:") else ""


def benign_set(arm: str) -> str:
    """Return the instruction set of a `benign:<set>` arm, or an empty string for other arms."""
    return arm.partition(":")[2] if arm.startswith("benign:") else ""


def external_adapter(arm: str) -> str:
    """Return the adapter name of an `adapter:<name>` arm, or an empty string for other arms."""
    return arm.partition(":")[2] if arm.startswith("adapter:") else ""


def served_model(arm: str) -> str:
    """Return the server name of a `served:<name>` arm, or an empty string for other arms."""
    return arm.partition(":")[2] if arm.startswith("served:") else ""


def is_trained(arm: str) -> bool:
    """Return whether a study trains the adapters of an arm."""
    return arm in VIM_STAGES or bool(benign_set(arm))


def has_adapter(arm: str) -> bool:
    """Return whether an arm is the base model with an adapter."""
    return is_trained(arm) or bool(external_adapter(arm))
