"""Tests of `unharm.cli.prompts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_what_is_shown_is_what_a_subject_receives(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    from unharm.cli.prompts import EXAMPLES, compose_examples
    from unharm.runs import keys
    from unharm.runs.plan import Plan

    (tmp_path / "beavertails.csv").write_text(
        f'prompt,category,category_id\n"{EXAMPLES["ask"]}",terrorism organized crime,1\n'
    )
    (tmp_path / "rtp.csv").write_text(f'"{EXAMPLES["continue"]}"\n')
    data = tiny_study | {
        "arms": ["vanilla", "icl"],
        "strategies": ["input-only", "safety", "value", "dual"],
        "data": str(tmp_path),
        "prompting": {"pack": "default", "set_aside": ["power", "hedonism"]},
        "benchmarks": {
            "rtp": {"file": "rtp.csv", "samples": 1},
            "beavertails": {"file": "beavertails.csv"},
        },
    }
    del data["corpus"]
    plan = Plan(load(data))
    received = {}
    for subject in plan.subjects:
        for shard in keys.shards(plan, subject, "base", ""):
            (request,) = keys.requests(plan, shard, None)
            received[subject.label, shard.benchmark] = request.text
    found = compose_examples(plan.study, plan.pack, plan.profiles)
    assert len(found) == 2 * 4 * 2
    for one in found:
        for name in one.benchmarks:
            assert one.text == received[one.subject, name]
    dual = next(s.text for s in found if s.subject.endswith("dual") and s.subject.startswith("icl"))
    assert "power, hedonism" in dual
    assert dual.endswith(EXAMPLES["continue"])


def test_prompts_show_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import json
    import sys

    from unharm.cli.app import main
    from unharm.cli.prompts import EXAMPLES

    def show(*words: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["unharm", "prompts", "show", "quickstart", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    code, out, _ = show()
    assert code == 0
    assert out.count("════ ") == 4
    assert EXAMPLES["ask"] in out
    code, out, _ = show("--json")
    assert code == 0
    assert {s["mode"] for s in json.loads(out)} == set(EXAMPLES)
    code, _, words = show("--profile", "powr")
    assert code == 2
    assert "did you mean 'power'?" in words
