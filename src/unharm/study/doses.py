"""Doses of the arms with adapters: after fewer epochs, or with the adapter multiplied.

A dose is an arm of its own, named after the full one: `vim@epoch3`, `vim@0.5`. It is written among the
arms, or follows from `training.<recipe>.keep` and `doses.scale`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from unharm.core.arms import (
    Dose,
    dose_of,
    dosed,
    full_arm,
    guard_of,
    has_adapter,
    is_trained,
    vim_stages,
)
from unharm.core.spec import NUMBER, Spec
from unharm.training.settings import Recipe, Training


def _scales(values: tuple[float, ...]) -> tuple[float, ...]:
    """Check that every factor has a name of its own."""
    if len(set(values)) < len(values):
        raise ValueError("given twice: a factor of 'scale'")
    for value in values:
        if dose_of(dosed("vim", Dose(scale=value))) != Dose(scale=value):
            raise ValueError(f"give factors with at most six decimals, not {value!r}")
    return values


class Doses(Spec):
    """Doses of every arm with an adapter, beside the full one."""

    scale: Annotated[tuple[Annotated[float, NUMBER, Field(gt=0, le=100)], ...], AfterValidator(_scales)] = (
        Field(
            (),
            description="factors of adapters at inference, such as [0.5, 1, 1.5]; 1 is the arm",
        )
    )


def arms_with_doses(named: list[str], training: Training, doses: Doses) -> list[str]:
    """Return the named arms of a study, each followed by its doses from `keep` and `doses.scale`.

    Arms with a guard inside training have only the doses that are named. Arms that the study has already
    are not repeated, so that it may be written out and read again.
    """
    arms: dict[str, None] = {}
    for arm in named:
        arms[arm] = None
        if dose_of(arm) is not None or guard_of(arm) or not has_adapter(arm):
            continue
        epochs = recipe_of(training, arm).keep if is_trained(arm) else ()
        parts = [Dose(epoch=n) for n in epochs] + [Dose(scale=x) for x in doses.scale if x != 1]
        arms |= dict.fromkeys(name for part in parts if (name := dosed(arm, part)) not in named)
    return list(arms)


def without_doses(study: dict[str, Any]) -> dict[str, Any]:
    """Return a study as plain data without `keep` and `doses`; doses among its arms stay."""
    training = dict(study.get("training") or {})
    recipes = {
        name: dict(training[name]) | {"keep": []} for name in ("vim", "dpo", "benign") if training.get(name)
    }
    return study | {"training": training | recipes, "doses": {}}


def dose_problem(arm: str, training: Training) -> tuple[str, str]:
    """Return what is wrong with an arm that is a dose, and what to do; empty texts if nothing is."""
    dose, full = dose_of(arm), full_arm(arm)
    if dose is None:
        return "", ""
    if dosed(full, dose) != arm:
        return f"{arm!r} is not how this dose is written", f"write {dosed(full, dose)!r}"
    if dose.scale is not None and (dose.scale == 1 or not 0 < dose.scale <= 100):
        return (
            f"the factor of {arm!r} must be above 0, at most 100 and not 1",
            f"{full!r} is the full dose",
        )
    if not has_adapter(full):
        return f"the arm {full!r} has no adapter, so it has no dose {dose}", "remove it"
    if dose.epoch is not None:
        if not is_trained(full):
            return f"the arm {full!r} is not trained by this study, so no epoch of it is kept", "remove it"
        epochs = recipe_of(training, full).epochs
        if dose.epoch > epochs:
            return f"{arm!r}: training ends after {epochs} epochs", "give an earlier epoch"
    return "", ""


def recipe_of(training: Training, arm: str) -> Recipe:
    """Return the recipe of a trained arm."""
    if full_arm(arm) == "dpo":
        return training.dpo
    return training.vim if vim_stages(arm) else training.benign
