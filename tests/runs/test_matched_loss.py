"""Benign adapters whose loss falls as far as that of value injection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.studies import study_data
from unharm.core.errors import UserError
from unharm.runs import keys
from unharm.runs.adapters import adapter_tasks, failure_reason, loss_curves
from unharm.runs.context import Run
from unharm.runs.matched_loss import fall_to_match, kept_fall, unmatched, without_match
from unharm.runs.pipeline import run_study
from unharm.runs.plan import Plan
from unharm.study.spec import Study
from unharm.training.loss_fall import fall

EPOCHS = 5


def matched(data: dict[str, Any], **benign: Any) -> dict[str, Any]:
    """A study with one profile whose benign arm follows the loss of the arm vim-qa."""
    training = {
        "vim": {"lr": 5e-3, "epochs": 3, "batch": 4},
        "benign": {"lr": 5e-3, "epochs": EPOCHS, "batch": 8, "accumulate": 1, "match": "loss"} | benign,
    }
    arms, profiles = ["vanilla", "vim-qa", "benign:grammar"], [{"extreme": ["power"]}]
    return data | {"arms": arms, "profiles": profiles, "training": data["training"] | training}


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = matched(study_data(tiny_base, tmp_path_factory.mktemp("matched") / "run"))
    return run_study(Study.model_validate(data), "adapters")


def test_the_kept_epoch_comes_nearest_to_the_fall_of_the_loss(run: Run) -> None:
    (task,) = (t for t in adapter_tasks(run).trained if run.plan.matches_loss(t.plan))
    marker, wanted = run.store.marker(task.artefact), fall_to_match(run)
    assert marker is not None
    assert wanted is not None
    (vim,) = (t for t in adapter_tasks(run).trained if not run.plan.matches_loss(t.plan))
    assert wanted == kept_fall(run.store.marker(vim.artefact) or {})
    steps, best = marker["epoch_steps"], marker["best_epoch"]
    assert len(steps) == EPOCHS
    assert len(marker["valid_loss"]) == best  # the curve ends where the adapter does
    assert marker["train_loss"][-1][0] == steps[best - 1]
    far = [abs(fall(marker["train_loss"], steps[epoch]) - wanted) for epoch in range(best)]
    assert min(far) == far[-1]
    said = list(unmatched(run))
    assert len(said) == (far[-1] > 0.05)
    assert loss_curves(run).filter(arm="benign:grammar")["best_epoch"].unique().to_list() == [best]


def test_its_weights_are_those_of_that_epoch(run: Run, tiny_study: dict[str, Any], load: Any) -> None:
    (task,) = (t for t in adapter_tasks(run).trained if run.plan.matches_loss(t.plan))
    epoch = (run.store.marker(task.artefact) or {})["best_epoch"]
    data = matched(tiny_study, match=None, keep=[epoch]) | {"arms": ["vanilla", "benign:grammar"]}
    kept = run_study(load(data), "adapters")
    (dose,) = adapter_tasks(kept).doses
    one, other = (
        load_file(r.store.locate(t.artefact) / "adapter_model.safetensors")
        for r, t in ((run, task), (kept, dose))
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("wanted", [0.9, -0.9])
def test_a_control_that_cannot_follow_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, wanted: float
) -> None:
    (task,) = (t for t in adapter_tasks(run).trained if run.plan.matches_loss(t.plan))
    marker = run.store.marker(task.artefact) or {}
    monkeypatch.setattr("unharm.runs.matched_loss.fall_to_match", lambda run: wanted)
    (sentence,) = unmatched(run)
    assert sentence.startswith("benign:grammar: the loss fell by ")
    last = marker["best_epoch"] == EPOCHS
    assert sentence.endswith("raise training.benign.epochs or lr" if last else "lower training.benign.lr")
    assert f"that of vim-qa by {wanted:.0%}" in sentence


def test_nothing_to_match_is_a_failure_of_the_control_alone(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unharm.training.loop.DIVERGED", 1e-9)  # every loss is too high
    run = run_study(load(matched(tiny_study)), "adapters")
    (task,) = (t for t in adapter_tasks(run).trained if run.plan.matches_loss(t.plan))
    assert without_match(run, task) == "no adapter of vim-qa was trained, whose loss it could match"
    assert failure_reason(run, task) == without_match(run, task)


def test_the_key_names_what_is_matched(tiny_study: dict[str, Any], load: Any) -> None:
    def key(**benign: Any) -> str:
        plan = Plan(load(matched(tiny_study, **benign)))
        (adapter,) = (a for a in plan.adapters if a.arm == "benign:grammar")
        return keys.adapter_artefact(plan, adapter, "base").key

    assert len({key(), key(match=None), key(epochs=4)}) == 3
    data = matched(tiny_study)
    data["training"]["vim"]["epochs"] = 2
    other = Plan(load(data))
    (adapter,) = (a for a in other.adapters if a.arm == "benign:grammar")
    assert keys.adapter_artefact(other, adapter, "base").key != key()


def test_one_epoch_leaves_nothing_to_choose(tiny_study: dict[str, Any], load: Any) -> None:
    with pytest.raises(UserError, match="give at least 2 epochs with 'match: loss'"):
        load(matched(tiny_study, epochs=1))
    with pytest.raises(UserError, match="no value-injected arm whose loss"):
        load(matched(tiny_study) | {"arms": ["vanilla", "benign:grammar"]})
    plan = Plan(load(matched(tiny_study)))
    assert plan.unequal_steps == []
