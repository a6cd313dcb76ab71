"""The functions of `import unharm` on a tiny study, and the handle that they give."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

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
