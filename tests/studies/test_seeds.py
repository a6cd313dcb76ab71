"""A study with several training seeds, from adapters to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from safetensors.torch import load_file

from support.studies import study_data
from unharm.core.files.yaml_text import SpecText
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import Run
from unharm.runs.handle import open_handle
from unharm.runs.pipeline import run_study
from unharm.study.check import parse_study


def seeded(base: Path, folder: Path) -> dict[str, Any]:
    """Two profiles, one trained arm with profiles and one without, two benchmarks."""
    data = study_data(base, folder / "run")
    benchmarks = data["benchmarks"]
    return data | {
        "profiles": [{"extreme": ["power", "benevolence"]}],
        "arms": ["vanilla", "vim-ag", "benign:grammar"],
        "seeds": [42, 7],
        "benchmarks": {"hexphi": benchmarks["hexphi"], "questionnaire": benchmarks["questionnaire"]},
    }


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    data = seeded(tiny_base, tmp_path_factory.mktemp("seeds"))
    return run_study(parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))), data


def test_a_stack_holds_one_seed_and_each_seed_starts_elsewhere(
    finished: tuple[Run, dict[str, Any]],
) -> None:
    run, _ = finished
    tasks = adapter_tasks(run).trained
    seed_of = {t.key: t.plan.seed for t in tasks}
    weights = {}
    for task in tasks:
        marker = run.store.marker(task.artefact)
        assert marker is not None
        assert {seed_of[key] for key in marker["stack"]} == {task.plan.seed}
        path = run.store.locate(task.artefact) / "adapter_model.safetensors"
        weights[task.plan.arm, task.plan.profile_name, task.plan.seed] = load_file(path)
    assert len(weights) == 6
    for arm, profile in {at[:2] for at in weights}:
        one, other = weights[arm, profile, 42], weights[arm, profile, 7]
        first = next(name for name in one if "lora_A" in name)
        assert (one[first] - other[first]).abs().max() > 1e-3
    curves = pl.read_csv(run.store.root / "adapters" / "curves.csv")
    assert set(curves["seed"]) == {42, 7}


def test_a_seed_trains_as_it_would_alone(
    finished: tuple[Run, dict[str, Any]], load: Any, tmp_path: Path
) -> None:
    run, data = finished
    alone = run_study(load(data | {"seeds": [7], "output": str(tmp_path / "alone")}), last="adapters")
    hashes = [
        {t.key: str((r.store.marker(t.artefact) or {})["path"]) for t in adapter_tasks(r).trained}
        for r in (alone, run)
    ]
    assert len(hashes[0]) == 3
    assert hashes[0].items() <= hashes[1].items()


def test_the_tables_carry_the_seed(finished: tuple[Run, dict[str, Any]]) -> None:
    run, _ = finished
    handle = open_handle(run.store.root)
    subjects = handle.table("subjects").filter(pl.col("category") == "all", metric="harmfulness")
    counts = dict(subjects.group_by("arm").agg(pl.col("seed").n_unique()).iter_rows())
    assert counts == {"vanilla": 1, "vim-ag": 2, "benign:grammar": 2}
    assert subjects.filter(arm="vanilla")["seed"].to_list() == [None]
    arms = handle.table("arms").filter(category="all", metric="harmfulness")
    assert dict(arms.select("arm", "seeds").iter_rows()) == {"vanilla": 1, "vim-ag": 2, "benign:grammar": 2}
    against = handle.table("comparisons").filter(category="all", metric="harmfulness", reference="vanilla")
    assert dict(against.select("arm", "seeds").iter_rows()) == {"vim-ag": 2, "benign:grammar": 2}
    assert against["seeds_hold"].is_between(0, 2).all()
    alignment = handle.table("alignment").filter(arm="vim-ag", reading="text")
    assert alignment.group_by("profile").agg(pl.col("seed").sort()).to_dicts()[0]["seed"] == [7, 42]
    moved = handle.table("moved").filter(aim="all", arm="vim-ag", reading="distribution")
    assert set(moved["n"]) == {2}


def test_the_report_says_what_scores_vary_with(finished: tuple[Run, dict[str, Any]]) -> None:
    run, _ = finished
    variance = open_handle(run.store.root).table("variance").filter(benchmark="hexphi")
    assert {"prompt", "profile", "seed"} <= set(variance.filter(arm="vim-ag")["source"])
    assert variance.filter(arm="vanilla")["source"].to_list() == ["prompt"]
    page = (run.store.root / "report.html").read_text(encoding="utf-8")
    assert "What the scores of each arm vary with" in page
    assert "One training seed" not in page


def test_the_library_gives_the_completions_of_a_seed(finished: tuple[Run, dict[str, Any]]) -> None:
    run, _ = finished
    handle = open_handle(run.store.root)
    every = handle.completions("hexphi").collect()
    assert every.group_by("seed").len().sort("seed").rows() == [(None, 10), (7, 30), (42, 30)]
    some = handle.completions("hexphi", arm="vim-ag", seed=7).collect()
    assert (some.height, set(some["seed"])) == (20, {7})
    assert handle.scores("hexphi", seed=42).collect().height == 30
    prompt = every["prompt_id"][0]
    assert handle.prompt(prompt)["seed"].to_list() == [None, 42, 7, 42, 7, 42, 7]


def test_a_further_seed_is_trained_alone(
    finished: tuple[Run, dict[str, Any]], load: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = finished
    before = set(run.store.root.glob("completions/**/*.parquet"))
    times = {p: p.stat().st_mtime_ns for p in before}
    more = run_study(load(data | {"seeds": [42, 7, 9]}), last="completions")
    added = set(more.store.root.glob("completions/**/*.parquet")) - before
    assert {p: p.stat().st_mtime_ns for p in before} == times
    assert added
    assert all("--seed-9" in str(p) for p in added)
    assert "adapters: 160 of 240 examples are already there" in capsys.readouterr().err
