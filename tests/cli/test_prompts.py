"""Tests of `unharm.cli.prompts`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_what_is_shown_is_what_a_subject_receives(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    from unharm.cli.prompts import EXAMPLES, shown
    from unharm.run import keys
    from unharm.run.plan import Plan

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
    found = shown(plan.study, plan.pack, plan.profiles)
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

    for words, code in (([], 0), (["--json"], 0), (["--profile", "powr"], 2)):
        monkeypatch.setattr(sys, "argv", ["unharm", "prompts", "show", "quickstart", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        out = capsys.readouterr()
        if code:
            assert "did you mean 'power'?" in out.err
        elif words:
            assert {s["mode"] for s in json.loads(out.out)} == set(EXAMPLES)
        else:
            assert out.out.count("════ ") == 4
            assert EXAMPLES["ask"] in out.out
