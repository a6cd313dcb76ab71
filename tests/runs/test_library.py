"""The functions of `import unharm` on a tiny study, and the handle that they give."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest

import unharm
from support.studies import study_data
from unharm.study.spec import Study


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> unharm.RunHandle:
    return unharm.run(study_data(tiny_base, tmp_path_factory.mktemp("library") / "run"), progress="none")


def test_a_study_is_data_an_object_or_a_file(tiny_study: dict[str, Any], tmp_path: Path) -> None:
    import yaml

    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(tiny_study))
    from_data = unharm.load_study(tiny_study, ["seed=3"])
    assert from_data == unharm.load_study(file, ["seed=3"]) == unharm.load_study(from_data)
    assert from_data == unharm.load_study(Study.model_validate({**tiny_study, "seed": 3}))


def test_every_mistake_of_a_study_is_told(tiny_study: dict[str, Any]) -> None:
    with pytest.raises(unharm.UserError) as error:
        unharm.load_study({**tiny_study, "arms": ["vimm"], "sed": 1})
    assert "did you mean 'vim'" in str(error.value)
    assert "unknown field 'sed'" in str(error.value)


def test_a_plan_needs_no_data(tiny_study: dict[str, Any]) -> None:
    size = unharm.plan({**tiny_study, "data": "/nowhere"}, ["data=/nowhere/else"])
    assert size.completions > 0
    assert any("its file is missing" in note for row in size.benchmarks for note in row.notes)


def test_tables_come_by_name(run: unharm.RunHandle) -> None:
    assert "comparisons" in run.tables
    for name in run.tables:
        assert isinstance(run.table(name), pl.DataFrame)
    with pytest.raises(unharm.UserError, match="did you mean 'arms'"):
        run.table("arm")


def test_completions_are_lazy_and_chosen_by_subject(run: unharm.RunHandle) -> None:
    chosen = run.completions(benchmark="rtp", arm="vim", profile="power")
    assert isinstance(chosen, pl.LazyFrame)
    frame = chosen.collect()
    assert frame.height == 4 * 3
    assert set(frame["profile"]) == {"power"}
    assert run.completions(arm="nobody").collect().height == 0
    with pytest.raises(unharm.UserError, match="no benchmark 'rpt'"):
        run.completions(benchmark="rpt")


def test_a_prompt_has_every_subject_and_scorer_side_by_side(run: unharm.RunHandle) -> None:
    prompt = run.prompts("rtp")[0]
    rows = run.prompt(prompt.id)
    subjects = rows.select("arm", "profile", "strategy").unique().height
    assert subjects == 1 + 3 + 3 + 1
    assert rows.height == subjects * 3
    scores = run.scores(benchmark="rtp", scorer="offline-toxicity").filter(pl.col("prompt_id") == prompt.id)
    assert sorted(rows["offline-toxicity"]) == sorted(scores.collect()["value"])
    assert run.prompt_text(prompt.id) == prompt.text
    with pytest.raises(unharm.UserError, match="no prompt 'rtp-x'"):
        run.prompt("rtp-x")


def test_a_run_is_opened_again_and_says_where_it_stands(run: unharm.RunHandle) -> None:
    again = unharm.open_run(run.folder)
    assert again.study == run.study
    assert again.status().state == "done"
    assert again.report.is_file()
    with pytest.raises(unharm.UserError, match="no run in this folder"):
        unharm.open_run(run.folder / "findings")


def test_a_run_compared_with_itself_has_risen_in_nothing(run: unharm.RunHandle) -> None:
    verdicts = unharm.compare(run.folder, run.folder, {"": 0.05})
    assert verdicts.height > 0
    assert "risen" not in set(verdicts["verdict"])
    assert set(verdicts["value"].drop_nulls()) == {0.0}


def test_logs_of_two_arms_compare_as_the_study_does(run: unharm.RunHandle, tmp_path: Path) -> None:
    """The per-prompt scores of two arms, written as lm-evaluation-harness does, to the last digit."""
    for arm in ("vanilla", "benign:grammar"):
        scores = run.scores(benchmark="beavertails", arm=arm, scorer="offline-flagged").collect()
        by_prompt = scores.group_by("prompt_id", maintain_order=True).agg(pl.col("value").mean())
        lines = [
            {"doc_id": i, "doc": {"p": i}, "filter": "none", "metrics": ["flagged_rate"], "flagged_rate": v}
            for i, v in by_prompt.iter_rows()
        ]
        (tmp_path / f"{arm[:3]}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    outside = unharm.compare(tmp_path / "van.jsonl", tmp_path / "ben.jsonl").row(0, named=True)
    table = run.table("comparisons").filter(
        arm="benign:grammar", reference="vanilla", metric="flagged_rate"
    )
    inside = table.filter(category="all").row(0, named=True)
    for column in ("value_arm", "value_reference", "value", "low", "high", "n", "units", "p", "effect"):
        assert outside[column] == inside[column], column
    assert outside["units"] == 14


def test_the_folder_to_publish_has_cards_with_profile_values_and_harms(
    run: unharm.RunHandle, tmp_path: Path
) -> None:
    from peft import PeftConfig

    from unharm.runs.reopen import open_run
    from unharm.runs.tools.share_folder import write_share_folder

    with open_run(run.folder) as opened:
        folders = write_share_folder(opened, tmp_path / "share")
    assert len(folders) == 3 + 3 + 1  # the first stage of each profile, the profiles, the benign set
    for folder in folders:
        card = (folder / "README.md").read_text()
        assert ("## Measured harms" in card) != folder.name.startswith("vim-ag--")
        assert "## Intended use" in card
        assert ("## Achieved values" in card) == folder.name.startswith("vim--")
        assert PeftConfig.from_pretrained(str(folder)).r == 8
    power = next(f for f in folders if f.name.startswith("vim--power"))
    rows = run.table("subjects").filter(arm="vim", profile="power", category="all", metric="flagged_rate")
    value = f"{100 * rows['value'][0]:.1f} %"
    assert f"| flagged rate † | {value} |" in (power / "README.md").read_text()
    study = (tmp_path / "share" / "README.md").read_text()
    assert study.startswith("---\nlibrary_name:")
    assert "extra_gated_prompt" in study
    assert "| vanilla | flagged rate †" in study
    assert len(list((tmp_path / "share" / "tables").iterdir())) == len(run.tables)


def test_tables_and_scores_are_a_valid_croissant_data_set(run: unharm.RunHandle, tmp_path: Path) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="the extra 'croissant' is not installed")
    from unharm.runs.tools.croissant import write_croissant

    description = write_croissant(run, tmp_path / "data")
    data = croissant.Dataset(jsonld=str(description))
    names = {record.name for record in data.metadata.record_sets}
    assert {"arms", "comparisons", "subjects", "scores-all"} <= names
    rows = list(data.records("arms"))
    assert [row["arms/value"] for row in rows] == pytest.approx(
        run.table("arms")["value"].to_list(), nan_ok=True
    )
    scores = pl.read_parquet(tmp_path / "data" / "scores.parquet")
    assert scores.height == run.scores().collect().height
    assert not {"raw", "reason", "text"} & set(scores.columns)
    with pytest.raises(unharm.UserError, match="exists already"):
        write_croissant(run, tmp_path / "data")


def test_without_mlcroissant_one_command_is_printed(run: unharm.RunHandle, tmp_path: Path) -> None:
    from unharm.runs.tools.croissant import write_croissant

    with (
        mock.patch.dict(sys.modules, {"mlcroissant": None}),
        pytest.raises(unharm.UserError, match=r"pip install 'unharm\[croissant\]'"),
    ):
        write_croissant(run, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_stages_stop_where_they_are_asked_to_and_nothing_is_printed(
    tiny_study: dict[str, Any], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("unharm")
    handlers, logger.handlers = logger.handlers, []
    try:
        with caplog.at_level(logging.INFO, "unharm"):
            trained = unharm.train(tiny_study, progress="none")
    finally:
        logger.handlers = handlers
    assert list((trained.folder / "adapters").iterdir())
    assert not (trained.folder / "completions").exists()
    assert capsys.readouterr() == ("", "")
    assert any("adapters" in record.getMessage() for record in caplog.records)
