"""Names of the arms (how a model is made) and strategies (how it is prompted)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

VIM_STAGES: dict[str, tuple[str, ...]] = {
    "vim": ("ag", "qa"),
    "vim-ag": ("ag",),
    "vim-qa": ("qa",),
    "dpo": ("dpo",),
}
"""Training stages of each value-injection arm, in order. AG: argument generation; QA: question answering;
DPO: direct preference optimisation on what the person would and would not say."""

TRAINING_GUARDS: tuple[str, ...] = ("interleave", "kl", "inoculate", "steer")
"""Guards inside training: `vim+kl` is the arm `vim` with one of them in all its stages."""

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


@dataclass(frozen=True)
class Dose:
    """How much of an arm a model has: its adapter after `epoch` epochs, or multiplied by `scale`.

    Exactly one of the two is given.
    """

    epoch: int | None = None
    scale: float | None = None

    def __str__(self) -> str:
        return f"epoch{self.epoch}" if self.epoch is not None else f"{self.scale:.12g}"


DOSE = re.compile(r"@(?:epoch([1-9]\d{0,4})|(\d{1,3}(?:\.\d{1,6})?))$")
"""The end of the name of an arm that is a dose: `vim@epoch3`, `vim@0.5`."""


def dose_of(arm: str) -> Dose | None:
    """Return the dose that an arm's name ends with, or None. Served models have none."""
    match = None if arm.startswith("served:") else DOSE.search(arm)
    if match is None:
        return None
    return Dose(epoch=int(match[1])) if match[1] else Dose(scale=float(match[2]))


GUARDED = re.compile(rf"^([a-z-]+)\+({'|'.join(TRAINING_GUARDS)})$")


def guard_of(arm: str) -> str:
    """Return the guard inside the training of an arm or of its dose: `kl` for `vim+kl`; else nothing."""
    match = GUARDED.match(full_arm(arm))
    return match[2] if match and match[1] in VIM_STAGES and match[1] != "dpo" else ""


def unguarded(arm: str) -> str:
    """Return the arm without its dose and guard: `vim` for `vim+kl` and `vim+kl@0.5`."""
    return full_arm(arm).removesuffix(f"+{guard_of(arm)}")


def full_arm(arm: str) -> str:
    """Return the arm without its dose: `vim` for `vim@epoch3`, and any other arm unchanged."""
    return arm if dose_of(arm) is None else DOSE.sub("", arm)


def without_doses(arms: Iterable[str]) -> list[str]:
    """Return the arms that are no doses. Only they are compared and tested: doses have their own table, so
    that a study with more doses makes no more tests."""
    return [arm for arm in arms if dose_of(arm) is None]


def dosed(arm: str, dose: Dose) -> str:
    """Return the name of a dose of an arm."""
    return f"{arm}@{dose}"


def vim_stages(arm: str) -> tuple[str, ...]:
    """Return the training stages of a value-injected arm, guarded or a dose or not; empty for others."""
    return VIM_STAGES.get(unguarded(arm), ())


def has_profile(arm: str) -> bool:
    """Return whether an arm has one model per profile (value injection, in-context, steering)."""
    return full_arm(arm) == "icl" or bool(vim_stages(arm)) or bool(steering(arm))


def steering(arm: str) -> str:
    """Return the variant of a `steer:<variant>` arm, or an empty string for other arms."""
    return arm.partition(":")[2] if arm.startswith("steer:") else ""


def benign_set(arm: str) -> str:
    """Return the instruction set of a `benign:<set>` arm, or an empty string for other arms."""
    return full_arm(arm).partition(":")[2] if arm.startswith("benign:") else ""


def external_adapter(arm: str) -> str:
    """Return the adapter name of an `adapter:<name>` arm, or an empty string for other arms."""
    return full_arm(arm).partition(":")[2] if arm.startswith("adapter:") else ""


def served_model(arm: str) -> str:
    """Return the server name of a `served:<name>` arm, or an empty string for other arms."""
    return arm.partition(":")[2] if arm.startswith("served:") else ""


def is_trained(arm: str) -> bool:
    """Return whether a study trains the adapters of an arm."""
    return bool(vim_stages(arm) or benign_set(arm))


def has_adapter(arm: str) -> bool:
    """Return whether an arm is the base model with an adapter."""
    return is_trained(arm) or bool(external_adapter(arm))
