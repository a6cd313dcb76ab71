"""Tests of `unharm.cli.plan`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.mitigation_helpers import unharm
from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.runs.planning import power as power_module


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


def test_a_plan_tells_what_would_be_found(
    tiny_study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_module, "STUDIES", 4)  # docs/findings.md runs all of them
    spec = tmp_path / "study.yaml"
    spec.write_text(yaml.safe_dump(tiny_study | {"profiles": ["extreme", "reverse"]}))
    result = unharm("plan", str(spec), "--power", "--json", "--assume", "base=0.3")
    assert result.exit_code == 0, result.output
    power = json.loads(result.stdout.splitlines()[-1])["power"]
    found = [row["found"] for row in power["correlations"]]
    assert found[-1] >= found[0]
    assert all(row["low"] <= row["found"] <= row["high"] for row in power["correlations"])
    assert {row["benchmark"] for row in power["differences"]} == {"rtp", "hbr", "hexphi", "beavertails"}
    few = json.loads(
        unharm(
            "plan",
            str(spec),
            "--power",
            "--json",
            "--set",
            "profiles=[{extreme: [power]}]",
            "--assume",
            "base=0.3",
        ).stdout.splitlines()[-1]
    )["power"]
    assert few["correlations"] == []
    assert "too few" in few["notes"][0]
