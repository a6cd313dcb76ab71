"""A whole study with value vectors: steered rows, choices, costs, mechanism, report, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from support.charts import valid_charts
from unharm.core.errors import UserError
from unharm.core.models.steering_folder import read_steering
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.steering import shift_folder, stored_choice, stored_vectors, training_arguments
from unharm.runs.tools.export_steering import export_steering
from unharm.training.steering.directions import profile_direction


@pytest.fixture(scope="module")
def study(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from support.studies import study_data
    from unharm.study.spec import Study

    data = study_data(tiny_base, tmp_path_factory.mktemp("mechanism") / "run")
    data |= {
        "arms": ["vanilla", "vim-qa", "steer:mean"],
        "profiles": [{"extreme": ["power", "benevolence", "security"]}],
        "steering": {"layers": [1], "strengths": [0.5], "profiles": 2, "statements": 12, "texts": 3},
        "mechanism": {"texts": 16},
        "benchmarks": {
            "hexphi": {"file": "hexphi", "limit": 10, "max_tokens": 2},
            "neutral": {"file": "neutral.tsv", "limit": 4, "max_tokens": 2},
            "questionnaire": {"file": "questionnaire.csv", "max_tokens": 2},
            "behaviour": {"limit": 20, "max_tokens": 1},
        },
    }
    return Study.model_validate(data)


@pytest.fixture(scope="module")
def run(study: Any) -> Run:
    return run_study(study)


def table(run: Run, name: str) -> pl.DataFrame:
    return pl.read_csv(run.store.root / "findings" / f"{name}.csv")


def test_a_shift_is_the_profile_at_the_chosen_layer_and_strength(run: Run) -> None:
    vectors, chosen = stored_vectors(run, "mean"), stored_choice(run, "mean")["chosen"]
    assert (chosen["layer"], chosen["strength"]) == (1, 0.5)
    assert {run.plan.splits[a.id] for a in training_arguments(run.plan)} == {"train"}
    for profile in run.plan.profiles:
        shift = read_steering(shift_folder(run, "steer:mean", profile))
        expected = 0.5 * profile_direction(vectors.vectors, vectors.scale, profile.importances)[1]
        torch.testing.assert_close(shift[1], expected)
        assert not shift[0].any()


def test_the_tables_have_every_arm(run: Run) -> None:
    behaved = table(run, "behaviour_arms")
    assert set(behaved["arm"]) == {"vim-qa", "steer:mean"}
    assert behaved.filter(pl.col("reading") == "behaviour")["n"].to_list() == [3, 3]
    costs = table(run, "costs")
    assert set(costs["arm"]) == {"vanilla", "vim-qa", "steer:mean"}
    steered = costs.filter((pl.col("arm") == "steer:mean") & (pl.col("cost") == "perplexity"))
    assert steered["value"].item() != pytest.approx(1.0, abs=1e-6)
    assert table(run, "leakage")["raised"].unique().sort().to_list() == ["benevolence", "power", "security"]
    moved = table(run, "mechanism")
    assert set(moved["arm"]) == {"vim-qa"}
    assert moved.height == 2 * 11  # layers × (ten values and harm)
    assert set(table(run, "mechanism_harms")["note"]) == {"fewer than 8 profiles"}


def test_the_report_has_the_sections(run: Run) -> None:
    page = (run.store.root / "report.html").read_text(encoding="utf-8")
    for heading in ("Values in behaviour", "Costs", "Mechanism", "Shifts and harm"):
        assert f">{heading}</h" in page
    assert 'data-chart="mechanism-vim-qa"' in page
    assert "mechanism-vim-qa" in valid_charts(run.store.root / "report.html")


def test_a_second_run_makes_nothing_again(run: Run, study: Any) -> None:
    before = len((run.store.root / "journal.jsonl").read_text().splitlines())
    again = run_study(study)
    events = [json.loads(x) for x in (again.store.root / "journal.jsonl").read_text().splitlines()[before:]]
    assert {event["stage"] for event in events} == {"report"}


def test_vectors_and_shifts_are_exported_with_cards(run: Run, tmp_path: Path) -> None:
    folders = export_steering(run, tmp_path)
    names = [folder.name.partition("--")[0] for folder in folders]
    assert names == ["vectors-mean", "harm-direction", *["steer-mean"] * 3]
    assert all((folder / "README.md").is_file() for folder in folders)
    card = (folders[2] / "README.md").read_text(encoding="utf-8")
    assert "strength | 0.5" in card
    pytest.importorskip("gguf", reason="control vectors need the package gguf: pip install 'unharm[gguf]'")
    assert (folders[2] / "control-vector.gguf").is_file()


@pytest.mark.parametrize(("statements", "pack"), [(12, "value-first"), (1, "toy")])
def test_ratings_are_read_in_any_form_of_answers_and_missing_ones_are_said(
    study: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], statements: int, pack: str
) -> None:
    """`value-first` puts the value before the rating; one statement carries too few values."""
    steering = study.steering.model_dump() | {"statements": statements}
    data = study.model_dump() | {
        "output": str(tmp_path / "run"), "arms": ["vanilla", "steer:mean"], "steering": steering,
        "prompting": {"pack": pack}, "mechanism": None,
    }  # fmt: skip
    alone = run_study(type(study).model_validate(data), "steering")
    choice = stored_choice(alone, "mean")
    alignments = [choice["base_alignment"], *(c["alignment"] for c in choice["tried"])]
    said = "alignment not known: fewer than 3 values" in capsys.readouterr().err
    assert said == (statements == 1)
    assert all((a is None) == said for a in alignments)
    assert all(shift_folder(alone, "steer:mean", p).is_dir() for p in alone.plan.profiles)


QUIZ = """
task: toy_quiz
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
"""


def test_capability_hands_models_to_the_harness_and_pairs_them(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'unharm[capability]'")
    from unharm.runs.tools.capability import capability

    rows = [
        {"question": f"The baker has {n}", "choices": ["bread", "iron"], "answer": n % 2} for n in range(6)
    ]
    (tmp_path / "quiz.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "toy_quiz.yaml").write_text(QUIZ.replace("FILE", str(tmp_path / "quiz.json")))
    table = capability(run, ["toy_quiz"], tmp_path, None)
    by_arm = {r["arm"]: r for r in table.filter(pl.col("metric") == "acc").to_dicts()}
    assert by_arm["vanilla"]["value"] == 0.0
    assert {arm: r["models"] for arm, r in by_arm.items()} == {"vanilla": 1, "vim-qa": 3, "steer:mean": 3}
    assert by_arm["vim-qa"]["unit"] == "target"
    with pytest.raises(UserError, match="unknown task 'toy_quizz'"):
        capability(run, ["toy_quizz"], tmp_path, None)
