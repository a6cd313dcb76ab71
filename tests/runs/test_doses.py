"""Doses in the plan and in the keys, and a small study with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file

from support.studies import study_data
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.runs import keys
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.plan import Plan
from unharm.runs.tools.export import export_adapters
from unharm.study.check import parse_study

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def artefacts(plan: Plan) -> dict[tuple[str, str], str]:
    """The key of every adapter, by arm and profile."""
    return {(a.arm, a.profile_name): keys.adapter_artefact(plan, a, "base").key for a in plan.adapters}


def kept(data: dict[str, Any], epochs: int, *keep: int, **more: Any) -> dict[str, Any]:
    training = {"vim": {"lr": 5e-3, "epochs": epochs, "batch": 16, "keep": list(keep)}}
    return data | {"training": data["training"] | training} | more


def test_doses_change_no_other_key(tiny_study: dict[str, Any], load: Any) -> None:
    plain = artefacts(Plan(load(kept(tiny_study, 3))))
    one = artefacts(Plan(load(kept(tiny_study, 3, 1))))
    more = artefacts(Plan(load(kept(tiny_study, 3, 1, 2, doses={"scale": [0.5]}))))
    assert plain.items() < one.items() < more.items()
    assert {arm for arm, _ in more.keys() - plain.keys()} == {
        "vim@epoch1", "vim@epoch2", "vim@0.5", "benign:grammar@0.5",
    }  # fmt: skip
    assert len(set(more.values())) == len(more)


def test_a_dose_alone_needs_the_full_adapter(tiny_study: dict[str, Any], load: Any) -> None:
    plan = Plan(load(kept(tiny_study, 3, arms=["vanilla", "vim@epoch2"])))
    assert [s.arm for s in plan.subjects] == ["vanilla", *["vim@epoch2"] * 3]
    assert {a.arm for a in plan.trained} == {"vim-ag", "vim"}
    assert {a.full.arm for a in plan.adapters if a.full} == {"vim"}


def test_preferences_share_the_table_of_stage_1_and_are_checked_before_work(
    tiny_study: dict[str, Any], load: Any
) -> None:
    wide = tiny_study["corpus"] | {"limit": 200}
    plan = Plan(load(tiny_study | {"arms": ["vanilla", "vim-ag", "dpo"], "corpus": wide}))
    plan.check_inputs()
    by_arm = {a.arm: a for a in plan.adapters}
    tables = {arm: keys.examples_artefact(plan, adapter) for arm, adapter in by_arm.items()}
    assert tables["dpo"] == tables["vim-ag"]
    assert keys.examples_key(plan, by_arm["dpo"]) != keys.examples_key(plan, by_arm["vim-ag"])
    few = Plan(load(tiny_study | {"arms": ["vanilla", "dpo"]}))
    with pytest.raises(UserError, match="no conclusion on which benevolence would say one argument"):
        few.check_inputs()


def small(base: Path, output: Path) -> dict[str, Any]:
    """Two profiles, one stage, no prompts beside a few."""
    data = study_data(base, output)
    return data | {
        "profiles": [{"extreme": ["power", "benevolence"]}],
        "arms": ["vanilla", "vim-ag"],
        "benchmarks": {"hexphi": data["benchmarks"]["hexphi"]},
    }


def trained(data: dict[str, Any]) -> Run:
    return run_study(parse_study(SpecText(yaml.safe_dump(data), "study.yaml")), last="adapters")


def folders(run: Run) -> dict[tuple[str, str], Path]:
    return {
        (t.plan.arm, t.plan.profile_name): run.store.locate(t.artefact) for t in adapter_tasks(run).every
    }


@pytest.fixture(scope="module")
def dosed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A study whose epoch 2 and whose multiples are asked for after it was trained."""
    output = tmp_path_factory.mktemp("doses") / "run"
    trained(kept(small(tiny_base, output), 3, 1))
    return trained(kept(small(tiny_base, output), 3, 1, 2, doses={"scale": [0.5, 2]}))


def test_epochs_kept_later_are_those_that_would_have_been_kept_at_once(
    dosed: Run, tiny_base: Path, tmp_path: Path
) -> None:
    at_once = folders(trained(kept(small(tiny_base, tmp_path / "run"), 3, 1, 2)))
    later = folders(dosed)
    assert len(at_once) == 6
    for at, folder in at_once.items():
        assert later[at].name == folder.name  # a folder is named by its content
    weights = [load_file(later[f"vim-ag{d}", "power"] / WEIGHTS) for d in ("@epoch1", "@epoch2", "")]
    name = next(n for n in weights[0] if "lora_B" in n)
    assert not torch.equal(weights[0][name], weights[1][name])


def test_a_multiple_has_the_same_weights_and_another_alpha(dosed: Run) -> None:
    places = folders(dosed)
    full = places["vim-ag", "power"]
    for scale in ("0.5", "2"):
        multiple = places[f"vim-ag@{scale}", "power"]
        assert (multiple / WEIGHTS).read_bytes() == (full / WEIGHTS).read_bytes()
        configs = [json.loads((folder / CONFIG).read_text()) for folder in (multiple, full)]
        assert configs[0]["lora_alpha"] == float(scale) * configs[1]["lora_alpha"]


def test_doses_are_exported_with_what_they_are(dosed: Run, tmp_path: Path) -> None:
    exported = export_adapters(dosed, tmp_path)
    assert len(exported) == 2 * 5
    cards = {f.name.partition("--")[0].partition(".")[0]: (f / "README.md").read_text() for f in exported}
    assert "multiplied by 0.5" in cards["vim-ag-0-5"]
    assert "epoch 2 of 3" in cards["vim-ag-epoch2"]


def test_curves_are_of_full_adapters(dosed: Run) -> None:
    assert set(pl.read_csv(dosed.store.root / "adapters" / "curves.csv")["arm"]) == {"vim-ag"}
