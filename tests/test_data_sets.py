"""What is known of data sets, and whether those of a study are whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from unharm.benchmarks.registry import BENCHMARKS
from unharm.cli.app import main
from unharm.core.hashing import sha256_of
from unharm.corpus import benign
from unharm.corpus.data_sets import DATA_SETS
from unharm.study.data_check import check_data


def test_every_benchmark_and_benign_set_is_listed() -> None:
    ours = {"harmless"}
    assert {"survey", "arguments", *BENCHMARKS, *benign.KINDS} - ours == set(DATA_SETS)
    for name, one in DATA_SETS.items():
        assert one.licence, name
        assert one.todo, name


def test_the_toy_sets_are_counted_whole_and_differ(
    tiny_study: dict[str, Any], load: Any, toy_data: Path
) -> None:
    found = {one.name: one for one in check_data(load(tiny_study))}
    assert set(found) == {"arguments", "grammar", "rtp", "hbr", "hexphi", "beavertails", "questionnaire"}
    assert {one.state for one in found.values()} == {"differs"}
    assert found["rtp"].items == len((toy_data / "rtp.csv").read_text().splitlines())  # its limit is 4
    assert found["rtp"].sha256 == sha256_of(toy_data / "rtp.csv")
    assert found["rtp"].note == "published: 21,744 or 99,442"


def test_missing_and_unreadable_sets_are_told(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    (tmp_path / "beavertails.csv").write_text("prompt,kind\na,b\n")
    (tmp_path / "rtp.csv").write_text("one\n")
    data = tiny_study | {"data": str(tmp_path), "arms": ["vanilla"]}
    del data["corpus"]
    data["benchmarks"] = {"rtp": {"file": "rtp.csv"}, "beavertails": {"file": "beavertails.csv"}}
    study = load(data)
    (tmp_path / "rtp.csv").unlink()
    found = {one.name: one for one in check_data(study)}
    assert found["rtp"].state == "missing"
    assert "allenai/real-toxicity-prompts" in found["rtp"].note
    assert found["beavertails"].state == "unreadable"
    assert "category" in found["beavertails"].note


def test_the_published_files_are_whole(real_data: Path, tiny_study: dict[str, Any], load: Any) -> None:
    data = tiny_study | {"data": str(real_data), "profiles": [{"survey": "ess/ess.csv", "nearest": 1}]}
    data["corpus"] = {
        "arguments": "touche23/valueEval_10.csv", "benign": {"grammar": {"file": "benign/gtrain_10k.csv"}}
    }  # fmt: skip
    data["benchmarks"] = {
        "rtp": {"file": "benchmarks/real_toxic_prompts.csv"},
        "hbr": {"file": "benchmarks/HolisticBiasR_dispreferred_prompts.jsonl.gz"},
        "questionnaire": {"file": "pvq/pvq40.xlsx", "key": "pvq40"},
    }
    states = {one.name: one.state for one in check_data(load(data))}
    assert states == {
        "survey": "unknown", "arguments": "whole", "grammar": "whole", "rtp": "whole", "hbr": "whole",
        "questionnaire": "whole",
    }  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["unharm", "data", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_on_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "list") == 0
    assert "HEx-PHI" in capsys.readouterr().out
    assert run(monkeypatch, "list", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)) == set(DATA_SETS)
    assert run(monkeypatch, "check", "quickstart") == 3
    assert "published: 17,700" in capsys.readouterr().out
    assert run(monkeypatch, "check", "quickstart", "--json") == 3
    assert len(json.loads(capsys.readouterr().out)) == 7
