"""What is known of data sets, and whether those of a study are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unharm.core.hashing import sha256_of
from unharm.study.data_check import check_data


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
