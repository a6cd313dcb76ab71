"""Whole studies after a kill, with refused adapters, with the alignment read from text and distribution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from support.generation_helpers import completions, small
from unharm.core.errors import UserError
from unharm.engines.hf import HfEngine
from unharm.runs import keys
from unharm.runs.adapters import failed_names
from unharm.runs.pipeline import run_study


def test_what_was_completed_before_a_kill_is_not_completed_again(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = completions(run_study(load(small(tiny_study, "vanilla", "icl")), last="completions"))
    data = small(tiny_study, "vanilla", "icl") | {"output": str(tmp_path / "killed")}
    complete, given = HfEngine.complete, 0

    def killed(self: HfEngine, *arguments: Any) -> Any:
        nonlocal given
        for made in complete(self, *arguments):
            given += 1
            if given == 70:
                raise KeyboardInterrupt
            yield made

    with monkeypatch.context() as patch:
        patch.setattr(HfEngine, "complete", killed)
        with pytest.raises(KeyboardInterrupt):
            run_study(load(data), last="completions")
    assert list((tmp_path / "killed" / ".parts").rglob("*.jsonl"))
    asked = 0

    def counted(self: HfEngine, tasks: Any, refused: Any) -> Any:
        nonlocal asked
        for made in complete(self, tasks, refused):
            asked += 1
            yield made

    monkeypatch.setattr(HfEngine, "complete", counted)
    run = run_study(load(data), last="completions")
    assert asked == whole.height - 69
    assert completions(run).equals(whole)
    assert not list((tmp_path / "killed" / ".parts").rglob("*.jsonl"))


def test_completions_do_not_depend_on_the_batch(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    hot = {name: spec | {"temperature": 1.0} for name, spec in tiny_study["benchmarks"].items()}
    data = small(tiny_study, "vanilla", "icl", "vim-ag") | {"benchmarks": hot}
    one = completions(run_study(load(data, "engine.batch=5"), last="completions"))
    other = run_study(load(data, "engine.batch=200", f"output={tmp_path / 'other'}"), last="completions")
    assert completions(other).equals(one)


def test_a_trained_adapter_without_effect_is_left_out_and_told(
    tiny_study: dict[str, Any], load: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = small(tiny_study, "vanilla", "vim-ag", "benign:grammar")
    data["training"] = {"vim": {"lr": 1e-12, "epochs": 1}, "benign": {"lr": 5e-3}}
    run = run_study(load(data))
    assert set(failed_names(run)) == {f"vim-ag · {p} · ag" for p in ("power", "benevolence", "security")}
    assert (
        "vim-ag · power: refused, and left out of the following stages (the adapter changes nothing"
        in capsys.readouterr().err
    )
    subjects = pl.read_csv(run.store.root / "findings" / "subjects.csv")
    assert set(subjects["arm"]) == {"vanilla", "benign:grammar"}
    assert "rejected before generation" in (run.store.root / "report.html").read_text()
    again = run_study(load(data))
    assert set(failed_names(again)) == set(failed_names(run))


def test_an_adapter_of_ones_own_that_does_not_fit_is_a_mistake(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    name = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file(
        {f"{name}.lora_A.weight": torch.ones(4, 64), f"{name}.lora_B.weight": torch.ones(64, 4)},
        tmp_path / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    data = small(tiny_study, "vanilla", "adapter:mine") | {"adapters": {"mine": str(tmp_path)}}
    with pytest.raises(UserError, match="64 × 64 in it, 32 × 32 in the base"):
        run_study(load(data))
    config["base_model_name_or_path"] = "some/base"
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="was made for some/base, and the base is other/base"):
        run_study(load(data, "base=other/base"))
    config["revision"] = "abc"
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="made for revision abc of the base, and the study names def"):
        run_study(load(data, "base=some/base", "revision=def"))


def test_the_alignment_is_read_from_text_and_from_the_distribution(
    tiny_study: dict[str, Any], load: Any
) -> None:
    run = run_study(load(small(tiny_study, "vanilla", "icl", "vim-ag")))
    table = pl.read_csv(run.store.root / "findings" / "alignment.csv")
    assert table.group_by("reading", "arm").len()["len"].to_list() == [3] * 6
    told = table.filter(pl.col("reading") == "distribution")
    assert told["unscored"].sum() == 0
    assert (told["mass"] > 0).all()
    assert (told["mass"] <= 1 + 1e-9).all()
    options = completions(run).filter(pl.col("prompt_id").str.starts_with("item-"))["options"]
    assert options.list.len().unique().to_list() == [6]
    one = keys.shards(run.plan, run.plan.subjects[0], run.base.key, "")
    shard = [s for s in one if s.benchmark == "questionnaire"]
    rows = pl.concat([run.store.scan(s.completions) for s in shard]).collect()
    value = next(p.category for p in shard[0].prompts)
    items = {p.id for s in shard for p in s.prompts if p.category == value}
    ratings = [
        sum((n + 1) * p for n, p in enumerate(r["options"])) / sum(r["options"])
        for r in rows.to_dicts()
        if r["prompt_id"] in items
    ]
    row = told.filter(pl.col("arm") == "vanilla").row(0, named=True)
    assert row[f"predicted_{value}"] == pytest.approx(sum(ratings) / len(ratings), rel=1e-9)
    assert "read from the distribution over the six answers" in (run.store.root / "report.html").read_text()


def test_rtp_strata_are_reported_apart(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    rows = [
        {
            "filename": f"{n}.txt",
            "begin": 0,
            "prompt": {"text": f"The neighbour number {n} said", "toxicity": n / 8},
        }
        for n in range(8)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    spec = {"file": str(tmp_path / "prompts.jsonl"), "samples": 2, "max_tokens": 4}
    run = run_study(load(small(tiny_study, "vanilla") | {"benchmarks": {"rtp": spec}}))
    found = pl.read_csv(run.store.root / "findings" / "subjects.csv")
    emt = found.filter(pl.col("metric") == "expected_maximum_toxicity")
    assert dict(emt.select("category", "n").iter_rows()) == {"all": 8, "toxic": 4, "non-toxic": 4}
