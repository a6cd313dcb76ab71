"""Tests of `unharm.cli.data`."""

from __future__ import annotations

import json
import sys

import pytest

from unharm.cli.app import main
from unharm.corpus.data_sets import DATA_SETS


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
