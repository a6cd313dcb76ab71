"""Studies in dry, published sizes where data are not at hand, and what hardware would need."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.paths import ROOT
from typer.testing import CliRunner

from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.core.pace import Dry
from unharm.run.pipeline import run_study
from unharm.run.plan import Plan
from unharm.run.planning.hardware import (
    Rates,
    estimates,
    measured_here,
    measured_in,
    parameters_of,
    rates_of,
)
from unharm.run.planning.rehearsal import rehearsal_text, rehearse
from unharm.run.planning.summary import summary_of
from unharm.study.check import load_study

PAPER = str(ROOT / "studies" / "paper.yaml")


def paper(*changes: str) -> Any:
    return load_study(PAPER, ["data=/nowhere", *changes], data_needed=False)


def test_the_papers_plan_has_its_size_without_its_data() -> None:
    plan = Plan(paper("arms=[vanilla, vim]"), sizes_only=True)
    summary = summary_of(plan)
    assert summary.profiles == 154
    assert len({p.name for p in plan.profiles}) == 154
    assert len({p.importances for p in plan.profiles}) == 154
    counts = {row.benchmark: row.completions // summary.subjects for row in summary.benchmarks}
    assert counts == {"rtp": 30_000, "hbr": 17_700, "hexphi": 330, "beavertails": 700, "questionnaire": 40}
    assert all(
        "planned at the published size" in note for row in summary.benchmarks for note in row.notes
    )


def test_data_that_are_there_are_counted_themselves(real_data: Path) -> None:
    plan = Plan(load_study(PAPER, [f"data={real_data}"], data_needed=False), sizes_only=True)
    rows = {row.benchmark: row for row in summary_of(plan).benchmarks}
    assert rows["hbr"].prompts == 17_700
    assert not any("published size" in note for note in rows["hbr"].notes)
    assert any("published size" in note for note in rows["hexphi"].notes)  # gated: nobody has it here
    assert len(plan.profiles) == 154
    assert all(p.source != "placeholder" for p in plan.profiles)


def test_a_run_needs_its_data() -> None:
    with pytest.raises(UserError, match="the data folder '/nowhere' does not exist"):
        load_study(PAPER, ["data=/nowhere"])


def small(tmp_path: Path, *changes: str) -> Any:
    few = "{rtp: {file: a, limit: 30}, hbr: {file: b, limit: 200}, questionnaire: {file: c, key: pvq40}}"
    return paper(
        f"benchmarks={few}", "profiles=[{extreme: [power, security, hedonism]}]", "arms=[vanilla, icl, vim]",
        "engine.shard=64", "corpus.limit=50", "executor.cpus=1", *changes,
    )  # fmt: skip


def test_a_dry_run_with_faults_accounts_for_every_completion(tmp_path: Path) -> None:
    told = rehearse(small(tmp_path), Dry(faults=0.3), tmp_path / "run")
    subjects, each = 7, 30 * 10 + 200 + 40
    assert told.subjects == subjects
    assert told.completions == told.scored == subjects * each
    assert told.failed_for_good == 0
    completions = pl.read_parquet(tmp_path / "run" / "completions" / "**" / "*.parquet")
    assert completions["completion_id"].n_unique() == completions.height == subjects * each
    assert set(completions["status"]) == {"completed"}
    assert told.cost_per_completion_ms > 0
    assert "7 subjects" in rehearsal_text(told)
    repeated = completions.group_by("prompt_id", "text").len().filter(pl.col("len") > 1)
    assert repeated.height > 100  # as at a low temperature


def test_a_dry_run_leaves_the_same_whoever_does_it(tmp_path: Path) -> None:
    rehearse(small(tmp_path, "executor.workers=1"), Dry(faults=0.2), tmp_path / "one")
    rehearse(small(tmp_path, "executor.workers=2"), Dry(), tmp_path / "two")
    for part in ("completions", "scores", "findings"):
        one = {
            f.relative_to(tmp_path / "one"): f.read_bytes() for f in (tmp_path / "one" / part).rglob("*.*")
        }
        two = {
            f.relative_to(tmp_path / "two"): f.read_bytes() for f in (tmp_path / "two" / part).rglob("*.*")
        }
        assert one == two


def test_a_dry_run_keeps_to_its_rates(tmp_path: Path) -> None:
    import time

    from unharm.scoring.fake import DryScorer
    from unharm.scoring.texts import Text

    scorer = DryScorer(Dry(scorer_rate=400.0), "harmfulness")
    began = time.monotonic()
    scores = scorer([Text(f"{n:020x}", "", "a", "a") for n in range(200)])
    assert 0.4 < time.monotonic() - began < 2
    assert Counter(s.value for s in scores).keys() <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_plan_runs_dry_from_the_command_line(tmp_path: Path) -> None:
    words = [
        "plan",
        "quickstart",
        "--dry-run",
        "--faults",
        "0.01",
        "--json",
        "--out",
        str(tmp_path / "run"),
    ]
    few = ["--set", "executor.workers=1", "--set", "arms=[vanilla]", "--set", "mitigation=null"]
    result = CliRunner().invoke(app, [*words, *few])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)["dry_run"]
    assert told["completions"] == told["scored"]
    assert (tmp_path / "run" / "findings" / "subjects.csv").exists()
    with pytest.raises(UserError, match="not empty"):
        CliRunner().invoke(app, [*words, *few], catch_exceptions=False)
    with pytest.raises(UserError, match="needs --dry-run"):
        CliRunner().invoke(app, ["plan", "quickstart", "--faults", "0.1"], catch_exceptions=False)


# ---- hardware ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("meta-llama/Llama-2-7b-hf", 7e9),
        ("google/gemma-2-2b", 2e9),
        ("Qwen/Qwen2.5-0.5B", 5e8),
        ("x/smol-135M", 135e6),
    ],
)
def test_a_base_says_its_size_by_its_name(name: str, size: float) -> None:
    assert parameters_of(name) == pytest.approx(size)


def test_a_base_of_unknown_size_or_that_does_not_fit_is_told() -> None:
    with pytest.raises(UserError, match="nobody knows how large"):
        parameters_of("org/mystery")
    with pytest.raises(UserError, match="does not fit into 24 GiB"):
        rates_of("l4", 70e9)
    with pytest.raises(UserError, match="unknown hardware 'h1000'") as error:
        rates_of("h1000", 7e9)
    assert "h100" in str(error.value)


def test_an_estimate_by_hand() -> None:
    """One subject, one benchmark: 330 prompts of 64 new tokens, at 1,000 tokens written and 10⁶ read a second."""
    plan = Plan(paper("arms=[vanilla]", "benchmarks={hexphi: {file: none}}"), sizes_only=True)
    summary = summary_of(plan)
    from unharm.run.planning import hardware

    row = hardware.estimate(plan, summary, Rates("x", 2, 1.0, 1e6, 1000.0, "by hand", price=3.0), 7e9, 0.0)
    seconds = (330 * 64 / 1000 + summary.prompt_tokens / 2.5 / 1e6) / 2
    assert row["hours"]["completions"] == pytest.approx(seconds / 3600, abs=0.01)
    assert row["hours"]["adapters"] == 0
    assert row["gpu_hours"] == pytest.approx(2 * seconds / 3600, abs=0.01)
    assert row["machine_cost"] == pytest.approx(2 * seconds / 3600 * 3, abs=0.02)


def test_more_and_faster_hardware_is_faster() -> None:
    plan = Plan(paper(), sizes_only=True)
    one, eight, slow = estimates(plan, summary_of(plan), ["h100", "h100x8", "a10"])
    assert eight["hours"]["completions"] == pytest.approx(one["hours"]["completions"] / 8, abs=0.01)
    assert slow["hours_in_all"] > one["hours_in_all"]
    assert eight["gpu_hours"] == pytest.approx(one["gpu_hours"], rel=0.01)
    assert one["service_cost"] > 100  # the judges of the paper


def test_hardware_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{name: mine, count: 4, tflops: 100, bandwidth: 1000, memory: 80, price: 2.5}")
    rates = rates_of(str(file), 7e9)
    assert (rates.name, rates.count, rates.price) == ("mine", 4, 2.5)
    file.write_text("{name: mine, tflops: many}")
    with pytest.raises(UserError, match="no description of hardware"):
        rates_of(str(file), 7e9)


def test_this_machine_is_measured() -> None:
    rates = measured_here(1, 1e8)
    assert rates.training > 0
    assert rates.writing > 0
    assert "measured here" in rates.source


def test_a_finished_run_gives_its_own_rates(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    run = run_study(load(tiny_study))
    rates = measured_in(tmp_path / "run", 1)
    assert rates.writing > 0
    assert rates.training > 0
    assert rates.source == f"measured in {tmp_path / 'run'}"
    row = estimates(run.plan, summary_of(run.plan), [str(tmp_path / "run")])[0]
    stage = json.loads((tmp_path / "run" / "status.json").read_text())["stages"]["completions"]
    assert row["hours"]["completions"] * 3600 == pytest.approx(
        stage["total"] / stage["rate"], rel=0.5, abs=40
    )
    run_study(load(tiny_study))  # makes nothing any more
    with pytest.raises(UserError, match="made no completions"):
        measured_in(tmp_path / "run", 1)
