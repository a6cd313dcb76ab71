"""The command line: exit codes, messages without traceback, --json, light start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.commands import unharm


def test_import_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys, unharm, unharm.cli.app\n"
        "try:\n    unharm.cli.app.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'polars', 'numpy', 'ray', 'altair'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in result.stdout
    assert "quickstart" not in result.stderr


def test_version() -> None:
    command = [sys.executable, "-m", "unharm", "--version"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "unharm 0.1.0"
    )


def test_a_wrong_spec_ends_with_two_and_no_traceback(tmp_path: Path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text("name: x\nbase: toy\ndata: toy\narms: [vanila]\nbenchmarks: {rpt: {}}\n")
    result = unharm("run", str(spec), cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "unharm: 2 problems" in result.stderr
    assert f"{spec}:4: arms.0" in result.stderr
    assert f"{spec}:5: benchmarks.rpt" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "absent.yaml"], "study: no such file"),
        (["run", "quickstart", "--set", "seed"], "expected key=value"),
        (["report", "absent"], "no run in this folder"),
        (["demo", "base", "--text", "absent.txt", "--out", "x"], "no such file"),
        (["nonsense"], "No such command"),
    ],
)
def test_users_mistakes(tmp_path: Path, words: list[str], told: str) -> None:
    result = unharm(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr


def test_plan_runs_nothing(tmp_path: Path) -> None:
    result = unharm("plan", "quickstart", "--json", cwd=tmp_path)
    summary = json.loads(result.stdout)
    assert (summary["subjects"], summary["adapters"]) == (30, 29)
    rows = {r["benchmark"]: r for r in summary["benchmarks"]}
    assert rows["rtp"]["completions"] == 30 * 30 * 4
    assert summary["completions"] == sum(r["completions"] for r in rows.values())
    assert list(tmp_path.iterdir()) == []
    text = unharm("plan", "quickstart", cwd=tmp_path).stdout
    assert "offline-toxicity" in text
    assert "subjects    30" in text


def test_stages_alone_then_report(tiny_study: dict[str, Any], tmp_path: Path) -> None:
    study = tiny_study | {"arms": ["vanilla", "vim-qa"], "profiles": [{"extreme": ["power"]}]}
    spec = tmp_path / "s.yaml"
    spec.write_text(yaml.safe_dump(study))
    root = Path(study["output"])
    for verb, made in (
        ("profiles make", "profiles/profiles.csv"),
        ("corpus make", "examples/qa.parquet"),
        ("train", "adapters"),
        ("generate", "completions"),
        ("score", "scores"),
        ("analyze", "findings/arms.csv"),
    ):
        result = unharm(*verb.split(), str(spec), "--json", cwd=tmp_path)
        assert result.returncode in (0, 3), result.stderr
        assert (root / made).exists()
        assert json.loads(result.stdout)["run"] == str(root)
    assert not (root / "report.html").exists()
    result = unharm("run", str(spec), "--json", cwd=tmp_path)
    answer = json.loads(result.stdout)
    assert Path(answer["report"]).exists()
    assert result.returncode == (0 if answer["complete"] else 3)
    (root / "report.html").unlink()
    assert unharm("report", str(root), cwd=tmp_path).returncode == 0
    assert (root / "report.html").exists()


def test_demo_base_makes_a_model_that_a_study_takes(tmp_path: Path, toy_data: Path) -> None:
    out = tmp_path / "base"
    words = ["demo", "base", "--text", str(toy_data / "arguments.tsv"), "--out", str(out), "--hidden", "32",
             "--layers", "1", "--vocabulary", "400", "--steps", "3", "--json"]  # fmt: skip
    result = unharm(*words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["loss"] > 0
    assert (out / "model.safetensors").exists()
    again = unharm(*words, cwd=tmp_path)
    assert again.returncode == 2
    assert "this folder exists already" in again.stderr
