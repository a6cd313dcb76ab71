"""Arms with a guard inside training: in the plan, in the keys, and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.studies import study_data
from unharm.core.errors import UserError
from unharm.core.models.steering_folder import write_steering
from unharm.runs import keys
from unharm.runs.adapters import adapter_tasks
from unharm.runs.pipeline import run_study
from unharm.runs.plan import Plan

GUARDS = ["vim-ag+interleave", "vim-ag+kl", "vim-ag+inoculate", "vim-ag+steer"]


def guarded(data: dict[str, Any], **settings: Any) -> dict[str, Any]:
    guard = {"data": "grammar", **settings}
    return data | {"arms": ["vanilla", "vim-ag", *GUARDS], "training": data["training"] | {"guard": guard}}


def artefacts(plan: Plan) -> dict[tuple[str, str], str]:
    return {(a.arm, a.profile_name): keys.adapter_artefact(plan, a, "base").key for a in plan.adapters}


def test_a_guard_holds_in_every_stage_and_changes_its_own_arm_alone(
    tiny_study: dict[str, Any], load: Any
) -> None:
    data = guarded(tiny_study) | {"arms": ["vanilla", "vim", "vim+kl", "vim+inoculate", "vim+kl@0.5"]}
    before = artefacts(Plan(load(data)))
    assert {arm for arm, _ in before} == {
        "vim-ag", "vim", "vim-ag+kl", "vim+kl", "vim-ag+inoculate", "vim+inoculate", "vim+kl@0.5",
    }  # fmt: skip
    assert len(set(before.values())) == len(before)
    data["training"]["guard"]["weight"] = 3.0
    after = artefacts(Plan(load(data)))
    changed = {at for at in before if before[at] != after[at]}
    assert {arm for arm, _ in changed} == {"vim-ag+kl", "vim+kl", "vim+kl@0.5"}
    plain = artefacts(Plan(load(tiny_study | {"arms": ["vanilla", "vim"]})))
    assert plain.items() < before.items()


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (["vanilla", "vim+steer"], "the arm 'vim+steer' needs a direction"),
        (["vanilla", "vim+kl"], "the arm 'vim+kl' needs safe texts"),
        (["vanilla", "vim+prayer"], "unknown name 'vim+prayer'"),
        (["vanilla", "icl+kl"], "unknown name 'icl+kl'"),
        (["vanilla", "dpo+kl"], "unknown name 'dpo+kl'"),
    ],
)
def test_wrong_guards_are_named(
    tiny_study: dict[str, Any], load: Any, arms: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("+", r"\+")):
        load(tiny_study | {"arms": arms})


def test_guards_train_in_stacks_of_their_own(tiny_base: Path, tmp_path: Path, load: Any) -> None:
    data = study_data(tiny_base, tmp_path / "run")
    data |= {"profiles": [{"extreme": ["power", "benevolence"]}]}
    data["benchmarks"] = {"hexphi": data["benchmarks"]["hexphi"]}
    direction = tmp_path / "direction"
    direction.mkdir()
    write_steering(direction, torch.ones(2, 32), {}, "a direction")
    run = run_study(load(guarded(data, direction=str(direction))), last="adapters")
    weights, stacks, examples = {}, {}, {}
    for task in adapter_tasks(run).trained:
        marker = run.store.marker(task.artefact)
        assert marker is not None
        at = task.plan.arm, task.plan.profile_name
        stacks[at], examples[at] = tuple(marker["stack"]), marker["examples"]
        tensors = load_file(run.store.locate(task.artefact) / "adapter_model.safetensors")
        weights[at] = tensors[min(n for n in tensors if "lora_B" in n)]
    for arm in ("vim-ag", *GUARDS):
        assert stacks[arm, "power"] == stacks[arm, "benevolence"]
        assert (weights[arm, "power"] - weights[arm, "benevolence"]).abs().max() > 0
        for other in ("vim-ag", *GUARDS):
            if other != arm:
                assert stacks[arm, "power"] != stacks[other, "power"]
                assert (weights[arm, "power"] - weights[other, "power"]).abs().max() > 1e-6
    assert examples["vim-ag+interleave", "power"] == 1.25 * examples["vim-ag", "power"]
    assert examples["vim-ag+kl", "power"] == examples["vim-ag", "power"]
