"""Which adapters a study needs: one per trained arm, profile and seed, with parents and doses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unharm.core.arms import Dose, benign_set, dose_of, external_adapter, full_arm, vim_stages
from unharm.core.records import Profile, Subject

SeedsOf = Callable[[str, Profile | None], Sequence[int | None]]
"""Returns the training seeds of an arm with a profile."""


@dataclass(frozen=True)
class AdapterPlan:
    """One adapter of a study.

    Attributes:
        arm: Its arm.
        stage: Its training stage, its benign set, or the name of an external adapter.
        profile: Its profile; None if the arm has none.
        parent: The adapter that its training starts from.
        source: Folder or hub id of an external adapter; empty for adapters that the study trains.
        seed: Its training seed where the study names several, else None: the study's seed.
        full: The adapter that it is a dose of: as it was after `dose.epoch`, or multiplied by `dose.scale`.
        dose: The dose; None for a full adapter.
    """

    arm: str
    stage: str
    profile: Profile | None
    parent: AdapterPlan | None = None
    source: str = ""
    seed: int | None = None
    full: AdapterPlan | None = None
    dose: Dose | None = None

    @property
    def profile_name(self) -> str:
        return self.profile.name if self.profile else ""

    @property
    def label(self) -> str:
        return Subject(self.arm, self.profile, "", self.seed).label


def planned_adapters(
    arms: Sequence[str], profiles: Sequence[Profile], seeds_of: SeedsOf, sources: Mapping[str, str]
) -> list[AdapterPlan]:
    """Return every adapter that some arms need, each after its parent and the one that it is a dose of.

    Args:
        arms: The arms.
        profiles: The profiles of the study.
        seeds_of: The training seeds of an arm.
        sources: The folder or hub id of each external adapter, by its name.
    """
    adapters: dict[AdapterPlan, None] = {}
    for arm in arms:
        dose = dose_of(arm)
        for full in _full_adapters(full_arm(arm), profiles, seeds_of, sources):
            if full.parent:
                adapters[full.parent] = None
            adapters[full] = None
            if dose is not None:
                part = AdapterPlan(arm, full.stage, full.profile, seed=full.seed, full=full, dose=dose)
                adapters[part] = None
    return list(adapters)


def _full_adapters(
    arm: str, profiles: Sequence[Profile], seeds_of: SeedsOf, sources: Mapping[str, str]
) -> list[AdapterPlan]:
    """Return the adapters of an arm that is no dose, each with its parent."""
    if name := external_adapter(arm):
        return [AdapterPlan(arm, name, None, source=sources[name])]
    if benign_set(arm):
        return [AdapterPlan(arm, benign_set(arm), None, seed=seed) for seed in seeds_of(arm, None)]
    adapters = []
    for profile in profiles if vim_stages(arm) else []:
        *before, last = vim_stages(arm)
        for seed in seeds_of(arm, profile):
            parent = None
            if before:
                first = arm.replace("vim", f"vim-{before[0]}", 1)  # with the guard of the arm
                parent = AdapterPlan(first, before[0], profile, seed=seed)
            adapters.append(AdapterPlan(arm, last, profile, parent, seed=seed))
    return adapters
