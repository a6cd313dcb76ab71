"""`unharm compare` on logs of other tools, and files that it does not write over."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner, Result

from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.runs.tools.logs.inspect_package import needed


def unharm(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def logs(tmp_path: Path) -> Callable[[str, float], Path]:
    def write(name: str, every: float) -> Path:
        path = tmp_path / name / "samples_gsm_2026-01-02T03-04-05.6.jsonl"
        path.parent.mkdir()
        lines = [
            {
                "doc_id": n,
                "doc": {"q": n},
                "filter": "none",
                "metrics": ["acc"],
                "acc": float(n % every == 0),
            }
            for n in range(60)
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
        return path.parent

    return write


def test_two_logs_are_compared_with_table_and_page(
    logs: Callable[[str, float], Path], tmp_path: Path
) -> None:
    one, other = logs("one", 2), logs("<b>two", 5)
    page, table = tmp_path / "page.html", tmp_path / "table.md"
    words = ("compare", str(one), str(next(other.iterdir())), "--html", str(page), "--markdown", str(table))
    result = unharm(*words)
    assert result.exit_code == 0, result.output
    assert "| gsm: acc | 50.00 | 20.00 | -30.00 |" in result.stdout
    html = page.read_text()
    assert "<b>two" not in html
    assert "&lt;b&gt;two" in html
    assert "<svg" in html
    assert "<script" not in html
    assert table.read_text() == result.stdout
    again = unharm(*words)
    assert isinstance(again.exception, UserError)
    assert len(again.exception.problems) == 2
    assert unharm(*words, "--force").exit_code == 0


def test_a_change_beyond_the_limit_ends_with_three(logs: Callable[[str, float], Path]) -> None:
    one, other = logs("one", 5), logs("two", 1)
    result = unharm("compare", str(one), str(other), "--max-increase", "acc=0.02", "--json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert (told["broken"], told["rows"][0]["gate"]) == (1, "risen")
    assert unharm("compare", str(one), str(other), "--max-decrease", "0.02").exit_code == 0


def test_wrong_options_are_told_together(logs: Callable[[str, float], Path]) -> None:
    one = logs("one", 5)
    wrong = unharm("compare", str(one), str(one), "--range", "5:1", "--range", "x", "--reduce", "maximum",
                   "--max-increase", "2", "--max-decrease", "y")  # fmt: skip
    assert isinstance(wrong.exception, UserError)
    assert len(wrong.exception.problems) == 5


def test_runs_and_logs_do_not_mix(logs: Callable[[str, float], Path], tmp_path: Path) -> None:
    one, empty = logs("one", 5), tmp_path / "empty"
    empty.mkdir()
    for other in (str(empty), str(tmp_path / "nothing")):
        assert "one of these is a log" in str(unharm("compare", str(one), other).exception)
    missing = unharm("compare", str(one), str(tmp_path / "nothing.jsonl"))
    assert "there is no such file" in str(missing.exception)
    twice = unharm("compare", str(one), str(one), "--also-b", str(next(one.iterdir())))
    assert "this log is given twice" in str(twice.exception)
    assert "only for logs: --html" in str(
        unharm("compare", str(empty), str(empty), "--html", "x.html").exception
    )


def test_without_inspect_ai_one_command_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "a.eval"
    file.write_bytes(b"")
    with mock.patch.dict(sys.modules, {"inspect_ai": None, "inspect_ai.log": None}):
        result = unharm("compare", str(file), str(file))
        with pytest.raises(UserError, match=r"pip install 'unharm\[inspect\]'"):
            needed("inspect_ai.log", "DIR")
    assert "pip install 'unharm[inspect]'" in str(result.exception)


def test_files_are_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("p.svg", "map.json", "a-to-b.json"):
        Path(name).write_text("mine")
    for words in (
        ("profiles", "show", "quickstart", "power", "--svg", "p.svg"),
        ("calibrate", "a", "b", "--texts", "t.csv", "--out", "map.json"),
        ("calibrate", "a", "b", "--texts", "t.csv"),
        ("compare", "a", "b", "--markdown", "p.svg"),
    ):
        result = unharm(*words)
        assert "exists already" in str(result.exception), words
        assert "--force" in str(result.exception)
    assert {Path(name).read_text() for name in ("p.svg", "map.json", "a-to-b.json")} == {"mine"}
    assert unharm("profiles", "show", "quickstart", "power", "--svg", "p.svg", "--force").exit_code == 0
    assert Path("p.svg").read_text().startswith("<svg")
