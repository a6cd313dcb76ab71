"""`unharm view`: what it refuses before it serves anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.runs import views

runner = CliRunner()


def message(*words: str) -> str:
    """The user error of a command."""
    result = runner.invoke(app, ["view", *words])
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="needs the extra 'view'")
    assert "no run in this folder" in message(str(tmp_path))
    assert "no run in this folder" in message(str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("x")
    assert "no run in this folder" in message(str(tmp_path / "file"))
    assert not list(tmp_path.rglob("*.done"))


def test_wrong_options_are_told_before_the_run_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("duckdb", reason="needs the extra 'view'")
    assert "begins with /" in message(str(tmp_path), "--at", "prompts")
    sheets = message(str(tmp_path), "--sheet", "one.csv", "--sheet", "two.csv")
    assert "one.csv" in sheets
    assert "two.csv" in sheets
    assert runner.invoke(app, ["view", str(tmp_path), "--port", "99999"]).exit_code == 2


def test_without_duckdb_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "find_spec", lambda name: None)
    assert message(str(tmp_path)) == (
        "unharm view: the package duckdb is not installed\n    pip install 'unharm[view]'"
    )
