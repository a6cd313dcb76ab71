"""The whole chain on a tiny base: results, resume, redo of what changed, kills, locks."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from support.charts import valid_charts
from support.commands import start, unharm
from support.studies import study_data
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.runs.adapters import loss_curves
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards
from unharm.study.check import parse_study
from unharm.training.loss_fall import hardly_trained


def journal(run_folder: Path, event: str = "done") -> list[dict[str, Any]]:
    """The whole lines: the last one may be on its way to the disk."""
    lines = (run_folder / "journal.jsonl").read_text().splitlines(keepends=True)
    lines = [line for line in lines if line.endswith("}\n")]
    return [row for row in map(json.loads, lines) if row["event"] == event]


def work(run_folder: Path) -> Counter[str]:
    """Finished tasks by stage, without the report, which is written every time."""
    return Counter(row["stage"] for row in journal(run_folder) if row["stage"] != "report")


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    data = study_data(tiny_base, tmp_path_factory.mktemp("finished") / "run")
    return run_study(parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))), data


def test_every_link_of_the_chain_is_there(finished: tuple[Run, dict[str, Any]]) -> None:
    run, _ = finished
    root = run.store.root
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["seed"] == 42
    assert manifest["prompt_pack"] == {"name": "toy", "key": run.plan.pack.key}
    assert json.loads((root / "prompt_pack.json").read_text()) == run.plan.pack.data
    assert manifest["left_out_too_long"] == {}
    assert manifest["packages"]["torch"] != "not installed"
    assert manifest["hardware"]["cores"] >= 1
    assert manifest["sessions"][0]["finished"]
    assert pl.read_csv(root / "profiles" / "profiles.csv").height == 3
    folders = [p for p in (root / "adapters").iterdir() if (p / "adapter_config.json").exists()]
    assert len(folders) == 7
    subjects = pl.read_csv(root / "findings" / "subjects.csv")
    assert set(subjects["arm"]) == {"vanilla", "icl", "vim", "benign:grammar"}
    assert set(subjects["metric"]) == {
        "expected_maximum_toxicity", "toxicity_probability", "negative_regard_rate", "bias_score", "bias_spread",
        "harmfulness", "share_of_5", "flagged_rate", "length", "incoherent_share", "coherent_expected_maximum_toxicity",
        "coherent_negative_regard_rate", "coherent_harmfulness", "coherent_flagged_rate",
    }  # fmt: skip
    assert subjects["stand_in"].all()
    alignment = pl.read_csv(root / "findings" / "alignment.csv")
    assert alignment.filter((pl.col("arm") == "vanilla") & (pl.col("reading") == "text")).height == 3
    associations = pl.read_csv(root / "findings" / "associations.csv", infer_schema_length=None)
    assert set(associations["arm"]) == {"icl", "vim"}
    hardly = hardly_trained(loss_curves(run))
    assert hardly  # one or two steps teach nothing, and the report says so
    page = (root / "report.html").read_text()
    assert all(row.sentence in page for row in hardly)


def test_the_charts_of_the_report_are_as_the_schema_asks(finished: tuple[Run, dict[str, Any]]) -> None:
    names = valid_charts(finished[0].store.root / "report.html")
    assert {"arms", "associations-0", "alignment-icl", "alignment-vim", "training"} <= names


def test_every_completion_has_one_score_by_id(finished: tuple[Run, dict[str, Any]]) -> None:
    run, _ = finished
    completions = pl.read_parquet(run.store.root / "completions" / "**" / "*.parquet")
    scores = pl.read_parquet(run.store.root / "scores" / "**" / "*.parquet")
    expected = 8 * (4 * 3 + 8 + 10 + 14 + 30)
    assert completions.height == scores.height == expected
    assert completions["completion_id"].n_unique() == expected
    assert completions.join(scores, on="completion_id").height == expected
    assert run.scored + run.unscored == expected
    assert scores["value"].null_count() == scores.filter(pl.col("status") == "unscored").height
    unscored = pl.read_csv(run.store.root / "findings" / "unscored.csv")
    assert unscored["completions"].sum() == run.unscored


def test_the_second_run_does_nothing_and_changes_nothing(
    finished: tuple[Run, dict[str, Any]], load: Any
) -> None:
    run, data = finished
    before = work(run.store.root)
    table = (run.store.root / "findings" / "subjects.csv").read_bytes()
    again = run_study(load(data))
    assert work(run.store.root) == before
    assert (run.store.root / "findings" / "subjects.csv").read_bytes() == table
    assert (again.scored, again.unscored) == (run.scored, run.unscored)


@pytest.mark.parametrize(
    ("change", "redone", "counts"),
    [
        ("analysis.confidence=0.9", {"findings"}, {}),
        # one shard of rtp for each subject
        (
            "benchmarks.rtp.max_tokens=4",
            {"completions", "scores", "findings"},
            {"completions": 8, "scores": 8},
        ),
        ("training.benign.lr=0.004", {"adapters", "completions", "scores", "findings"}, {"adapters": 1}),
        ("corpus.threshold=1", {"examples", "adapters", "completions", "scores", "findings"}, {}),
    ],
)
def test_a_changed_setting_redoes_what_depends_on_it(
    tiny_study: dict[str, Any], load: Any, finished: tuple[Run, dict[str, Any]], tmp_path: Path,
    change: str, redone: set[str], counts: dict[str, int],
) -> None:  # fmt: skip
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(finished[0].store.root, folder)
    before = work(folder)
    run_study(load(finished[1] | {"output": str(folder)}, change), last="findings")
    after = work(folder) - before
    assert set(after) == redone
    assert {stage: after[stage] for stage in counts} == counts
    # and back again: everything of before is still there, only tables at fixed places are written
    run_study(load(finished[1] | {"output": str(folder)}), last="findings")
    assert set(work(folder) - before - after) <= {"findings", "examples"}


def test_a_longer_benchmark_keeps_the_shards_it_has(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    study = tiny_study | {"arms": ["vanilla"], "engine": {"batch": 16, "shard": 6}}
    study["benchmarks"] = {"rtp": {"file": "rtp.csv", "limit": 4, "samples": 3, "max_tokens": 3}}
    run_study(load(study), last="completions")
    assert work(tmp_path / "run")["completions"] == 2
    run_study(load(study, "benchmarks.rtp.limit=6"), last="completions")
    assert work(tmp_path / "run")["completions"] == 3


def test_killed_at_random_moments_and_resumed(tiny_study: dict[str, Any], tmp_path: Path) -> None:
    """SIGKILL, again and again: in the end every task was finished once, and at most the task in
    flight of each kill was begun twice."""
    study = tiny_study | {"arms": ["vanilla", "vim"]}
    spec = tmp_path / "study.yaml"
    spec.write_text(yaml.safe_dump(study))
    root = Path(study["output"])
    draw = random.Random(5)
    kills = 0
    for _ in range(3):
        process = start("run", str(spec))
        seen = len(journal(root)) if (root / "journal.jsonl").exists() else 0
        goal, deadline = seen + draw.randint(3, 12), time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if (root / "journal.jsonl").exists() and len(journal(root)) >= goal:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            time.sleep(0.005)
        if process.poll() is None:
            process.kill()
    assert kills == 3
    assert unharm("run", str(spec)).returncode in (0, 3)
    done = Counter(row["path"] for row in journal(root) if row["stage"] != "report")
    together = ("completions", "report")  # several shards are on their way at a time
    begun = Counter(row["path"] for row in journal(root, "begin") if row["stage"] not in together)
    assert sum(done.values()) - len(done) <= kills  # a task that was killed between its file and its note
    assert sum(begun.values()) - len(begun) <= kills
    completions = pl.read_parquet(root / "completions" / "**" / "*.parquet")
    assert completions["completion_id"].n_unique() == completions.height == 4 * (12 + 8 + 10 + 14 + 30)
    assert not list((root / ".tmp").iterdir()) if (root / ".tmp").exists() else True


def test_a_damaged_shard_is_redone(finished: tuple[Run, dict[str, Any]], load: Any, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(finished[0].store.root, folder)
    before = work(folder)
    shard = sorted((folder / "completions").rglob("*.parquet"))[3]
    content = shard.read_bytes()
    shard.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    run_study(load(finished[1] | {"output": str(folder)}), last="findings")
    assert work(folder) - before == {"completions": 1}
    assert shard.read_bytes() == content


def test_a_second_process_stops_with_a_message(tiny_study: dict[str, Any], load: Any) -> None:
    from unharm.store.store import Store

    with Store(Path(tiny_study["output"])).lock(), pytest.raises(UserError) as caught:
        run_study(load(tiny_study))
    assert f"process {os.getpid()}" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"base": "no-such-model"}, "no model named 'no-such-model'"),
        ({"base": "tests"}, "no readable config.json"),
        ({"base": "README.md"}, "the base is a file"),
        ({"training": {"lora": {"targets": ["nowhere"]}}}, "training.lora.targets"),
        ({"output": "/proc/nowhere"}, "/proc/nowhere"),
        ({"prompting": {"format": "chat"}}, "no chat template"),
    ],
)
def test_wrong_inputs_are_a_users_mistake(
    tiny_study: dict[str, Any], load: Any, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as caught:
        run_study(load(tiny_study | change))
    assert told in str(caught.value)


def test_pickled_weights_are_not_loaded(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    base = tmp_path / "pickled"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "llama"}')
    (base / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"no \.safetensors file"):
        run_study(load(tiny_study | {"base": str(base)}))


def test_hostile_names_and_texts_stay_text(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    from unharm.core.values import VALUES

    attack = "<script>alert(1)</script>"
    table = tmp_path / "p.csv"
    rows = [f"{name}," + ",".join(["2"] * 10) for name in (attack, "../x", "a/b", "Ana María")]
    table.write_text("\n".join(["name," + ",".join(VALUES), *rows]), encoding="utf-8")
    questions = tmp_path / "beavertails.csv"
    questions.write_text(f'prompt,category,category_id\n"{attack}",{attack},0\n"b",c,1\n')
    study = tiny_study | {
        "profiles": [str(table)],
        "arms": ["icl"],
        "benchmarks": {"beavertails": {"file": str(questions), "max_tokens": 3}},
    }
    run = run_study(load(study))
    html = (run.store.root / "report.html").read_text()
    assert attack not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not (tmp_path / "x").exists()
    assert len(list((run.store.root / "completions").iterdir())) == 4
    ids = pl.read_parquet(run.store.root / "completions" / "**" / "*.parquet")["completion_id"]
    assert ids.n_unique() == len(ids) == 8  # four profiles that differ in nothing but their name
    subjects = pl.read_csv(run.store.root / "findings" / "subjects.csv")
    assert {"../x", "a/b", "Ana María", attack} == set(subjects["profile"])


def test_the_report_shows_the_same_examples_every_time(finished: tuple[Run, dict[str, Any]]) -> None:
    from unharm.runs.stages.report import chosen_examples

    run, _ = finished
    first = chosen_examples(run.store, all_shards(run))
    assert first
    assert all(chosen_examples(run.store, all_shards(run)) == first for _ in range(5))


def test_one_profile_and_no_questionnaire_still_make_a_report(
    tiny_study: dict[str, Any], load: Any
) -> None:
    study = tiny_study | {
        "profiles": [{"extreme": ["power"]}],
        "arms": ["vanilla", "icl"],
        "benchmarks": {"hexphi": {"file": "hexphi", "limit": 1, "max_tokens": 2}},
    }
    run = run_study(load(study))
    html = (run.store.root / "report.html").read_text()
    assert "This study has no questionnaire" in html
    assert "No correlation can be computed" in html
    assert not re.search(r"\bnan\b", html.split("<script>")[0].lower())


def test_a_wrong_base_leaves_no_folder(tiny_study: dict[str, Any], load: Any) -> None:
    with pytest.raises(UserError):
        run_study(load(tiny_study | {"base": "no-such-model"}))
    assert not Path(tiny_study["output"]).exists()
