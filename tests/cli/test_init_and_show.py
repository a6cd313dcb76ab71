"""`unharm init` and `unharm show`."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.commands import start
from support.studies import study_data
from unharm.cli.app import app
from unharm.cli.show import HIDDEN, one_line
from unharm.core.errors import UserError
from unharm.runs.library import load_study, run

runner = CliRunner()


def test_a_study_to_start_from_is_right_and_runs(tiny_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "my" / "first study.yaml"
    result = runner.invoke(app, ["init", str(file), "--demo", "--base", str(tiny_base), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"study": str(file), "data": str(tmp_path / "my" / "data")}
    small = ["corpus.limit=30", "training.vim.epochs=1", "profiles=[{extreme: [power]}]"]
    small += [f"benchmarks.{b}.limit=2" for b in ("rtp", "hbr", "hexphi", "beavertails")]
    made = run(load_study(file, [*small, f"output={tmp_path / 'run'}"]), progress="none")
    assert made.study.name == "first-study"
    assert made.report.is_file()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("mine")
    result = runner.invoke(app, ["init", str(file)])
    assert isinstance(result.exception, UserError)
    assert file.read_text() == "mine"
    (tmp_path / "data").mkdir()
    result = runner.invoke(app, ["init", str(tmp_path / "other.yaml"), "--demo"])
    assert isinstance(result.exception, UserError)
    assert not (tmp_path / "other.yaml").exists()


@pytest.fixture(scope="module")
def folder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = study_data(tiny_base, tmp_path_factory.mktemp("show") / "run")
    data["arms"] = ["vanilla", "icl"]
    data["benchmarks"] = {"hexphi": {"file": "hexphi", "limit": 10, "max_tokens": 20}}
    return run(data, progress="none").folder


def test_prompts_are_listed_and_texts_are_hidden_until_revealed(folder: Path) -> None:
    listed = json.loads(runner.invoke(app, ["show", str(folder), "--json"]).stdout)
    prompt = listed["hexphi"][0]
    hidden = runner.invoke(app, ["show", str(folder), "--prompt", prompt])
    assert HIDDEN in hidden.stdout
    shown = json.loads(
        runner.invoke(app, ["show", str(folder), "--prompt", prompt, "--reveal", "--json"]).stdout
    )
    assert shown["text"] not in hidden.stdout
    answers = [a["text"] for a in shown["answers"] if len(a["text"]) > 5]
    assert answers
    assert all(text not in hidden.stdout for text in answers)
    assert "offline-harmfulness" in hidden.stdout
    assert "icl · power" in hidden.stdout


def test_an_unknown_prompt_is_one_message(folder: Path) -> None:
    result = runner.invoke(app, ["show", str(folder), "--prompt", "hexphi-0"])
    assert isinstance(result.exception, UserError)
    assert "no prompt 'hexphi-0'" in str(result.exception)


def test_a_completion_cannot_steer_the_terminal() -> None:
    assert one_line("a\x1b[2J\nb\u202ec") == "a [2J b c"


def test_view_serves_the_run_until_it_is_interrupted(folder: Path) -> None:
    """The address that is printed opens the run; a second viewer takes another port."""
    pytest.importorskip("duckdb", reason="needs the extra 'view'")
    commands = [start("view", str(folder), "--json", "--at", "/prompts?arm=icl") for _ in range(2)]
    ports = set()
    for command in commands:
        until = time.monotonic() + 120
        while not command.stdout.endswith("\n"):
            assert command.poll() is None, command.stderr
            assert time.monotonic() < until, "no address"
            time.sleep(0.1)
        told = json.loads(command.stdout)
        ports.add(told["port"])
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(told["address"]) as page:
            text = page.read().decode()
            assert page.geturl().endswith("/prompts?arm=icl")
        assert "30</strong> of 40 completions" in text
    assert len(ports) == 2
    for command in commands:
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 130
        assert "Traceback" not in command.stderr
