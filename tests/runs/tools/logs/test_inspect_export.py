"""A run written as logs of inspect_ai and read back by its reader. Skipped without inspect_ai."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import unharm
from support.studies import study_data
from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.runs.tools.logs.inspect_log import read_log
from unharm.runs.tools.logs.inspect_writer import write_log

inspect_log = pytest.importorskip("inspect_ai.log", reason="the extra 'inspect' is not installed")

SAME = (
    "value_arm",
    "value_reference",
    "value",
    "low",
    "high",
    "n",
    "units",
    "profiles",
    "p",
    "effect",
    "note",
)


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> unharm.RunHandle:
    data = study_data(tiny_base, tmp_path_factory.mktemp("inspect") / "run")
    data["arms"] = ["vanilla", "icl"]
    data["benchmarks"]["beavertails"]["limit"] = 28
    return unharm.run(data, progress="none")


@pytest.fixture(scope="module")
def logs(run: unharm.RunHandle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs") / "out"
    result = CliRunner().invoke(app, ["export", str(run.folder), "--inspect", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["inspect"]) == 4 * 5
    return folder


def test_counts_texts_and_scores_are_equal(run: unharm.RunHandle, logs: Path) -> None:
    log = inspect_log.read_eval_log(str(logs / "vanilla--input-only--rtp.eval"))
    completions = run.completions("rtp", "vanilla").collect()
    by_id = {s.metadata["completion_id"]: s for s in log.samples}
    assert len(log.samples) == len(by_id) == completions.height == 4 * 3
    assert log.eval.config.epochs == 3
    scores = {r["completion_id"]: r["value"] for r in run.scores("rtp", "vanilla").collect().to_dicts()}
    for row in completions.to_dicts():
        sample = by_id[row["completion_id"]]
        assert sample.output.completion == row["text"]
        value = sample.scores["offline-toxicity"].value
        assert value == scores[row["completion_id"]] or (
            math.isnan(value) and scores[row["completion_id"]] is None
        )
    ours = log.eval.metadata["unharm"]
    assert (ours["arm"], ours["base"]["name"]) == ("vanilla", run.study.base)
    assert not [p for p in logs.iterdir() if p.stat().st_mode & 0o077]


def test_exported_logs_compare_as_the_study_does(run: unharm.RunHandle, logs: Path, tmp_path: Path) -> None:
    """Profiles, several samples, maxima and the range 1 to 5 included: to the last digit."""
    sides: dict[str, Path] = {arm: tmp_path / arm for arm in ("vanilla", "icl")}
    for arm, folder in sides.items():
        folder.mkdir()
        for file in logs.glob(f"{arm}--*.eval"):
            (folder / file.name).symlink_to(file)
    outside = unharm.compare(sides["vanilla"], sides["icl"])
    table = run.table("comparisons").filter(arm="icl", reference="vanilla", strategy="input-only")
    for benchmark, metric, scorer in (
        ("rtp", "expected_maximum_toxicity", "offline-toxicity"),
        ("hbr", "negative_regard_rate", "offline-regard"),
        ("hexphi", "harmfulness", "offline-harmfulness"),
        ("beavertails", "flagged_rate", "offline-flagged"),
    ):
        inside = table.filter(benchmark=benchmark, metric=metric).sort("category").to_dicts()
        rows = outside.filter(task=benchmark, metric=scorer).sort("category").to_dicts()
        assert len(inside) == len(rows) > 0
        for one, other in zip(inside, rows, strict=True):
            assert {c: one[c] for c in SAME} == {c: other[c] for c in SAME}, (benchmark, one["category"])


@pytest.mark.parametrize("way", ["recorder", "another version"])
def test_a_long_log_is_written_in_parts(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Part by part by the recorder of inspect_ai; where that differs, whole by its function."""
    log = inspect_log.read_eval_log(str(logs / "vanilla--input-only--rtp.eval"))
    monkeypatch.setattr("unharm.runs.tools.logs.inspect_writer.AT_ONCE", 5)
    if way == "another version":
        monkeypatch.delattr("inspect_ai.log._recorders.eval.EvalRecorder.flush")
    write_log(log, tmp_path / "parts.eval")
    again = inspect_log.read_eval_log(str(tmp_path / "parts.eval"))
    assert len(again.samples) == 12
    assert again.model_dump(exclude={"location"}) == log.model_dump(exclude={"location"})
    assert read_log(tmp_path / "parts.eval").scores.equals(
        read_log(logs / "vanilla--input-only--rtp.eval").scores
    )


def test_logs_are_not_written_over_and_names_are_known(run: unharm.RunHandle, logs: Path) -> None:
    words = ["export", str(run.folder), "--inspect", str(logs), "--arm", "icl"]
    assert "this log exists already" in str(CliRunner().invoke(app, words).exception)
    assert CliRunner().invoke(app, [*words, "--force"]).exit_code == 0
    wrong = CliRunner().invoke(app, [*words, "--arm", "icll", "--benchmark", "rpt"]).exception
    assert isinstance(wrong, UserError)
    assert len(wrong.problems) == 2


def test_a_log_that_cannot_be_used_is_told(logs: Path, tmp_path: Path) -> None:
    def changed(change: Any) -> Path:
        log = inspect_log.read_eval_log(str(logs / "vanilla--input-only--hexphi.eval"))
        change(log)
        inspect_log.write_eval_log(log, str(tmp_path / "a.eval"))
        return tmp_path / "a.eval"

    def stop(log: Any) -> None:
        log.status = "cancelled"

    def reduce(log: Any) -> None:
        log.eval.config.epochs_reducer = ["at_least_2"]

    def unscore(log: Any) -> None:
        for sample in log.samples:
            sample.scores = {}

    with pytest.raises(UserError, match="its status is 'cancelled'"):
        read_log(changed(stop))
    with pytest.raises(UserError, match="epochs are reduced by 'at_least_2'"):
        read_log(changed(reduce))
    with pytest.raises(UserError, match="no sample of this log has a score"):
        read_log(changed(unscore))
    with pytest.raises(UserError, match="has no metadata 'topic'"):
        read_log(logs / "vanilla--input-only--hexphi.eval", "topic")
    (tmp_path / "b.eval").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="inspect_ai cannot read this log"):
        read_log(tmp_path / "b.eval")
