"""The prompt pack: slots are checked, prompts are put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from unharm.core.errors import UserError
from unharm.core.records import Subject
from unharm.core.values import VALUES
from unharm.profiles.extreme import extreme
from unharm.prompting.compose import as_text, preamble_of, put
from unharm.prompting.pack import EMBEDDED, load_pack


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_packs_are_whole(name: str) -> None:
    pack = load_pack(name)
    described = pack.describe(extreme("power"))
    assert all(value in described for value in VALUES)


def broken(tmp_path: Path, change: dict[str, object]) -> str:
    data = load_pack("default").data | change
    path = tmp_path / "pack.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(UserError) as caught:
        load_pack(str(path))
    return str(caught.value)


def test_a_missing_slot_is_named(tmp_path: Path) -> None:
    told = broken(
        tmp_path, {"ask": "Question?", "ag": load_pack("default").data["ag"] | {"answer": "{agree}"}}
    )
    assert "ask: the slot {prompt} is missing" in told
    assert "ag.answer: the slot {premise} is missing" in told


def test_unknown_slots_and_missing_wordings_are_named(tmp_path: Path) -> None:
    assert "unknown slot {name}" in broken(tmp_path, {"ask": "{prompt} {name}"})
    assert "system: this wording is missing" in broken(tmp_path, {"system": None})
    assert "expected a list of 6 phrases" in broken(tmp_path, {"likeness": ["a", "b"]})
    assert "the definition is missing" in broken(tmp_path, {"values": {}})
    assert "not a template" in broken(tmp_path, {"ask": "{prompt"})


def test_strategies_and_profiles_come_before_the_prompt() -> None:
    pack = load_pack("default")
    plain = Subject("vanilla", None, "input-only")
    assert preamble_of(pack, plain, []) == ""
    assert put(pack, "Once", "continue") == "Once"
    assert put(pack, "Why?", "ask") == "Question: Why?\nAnswer:"
    assert put(pack, "They rest.", "rate") == pack.rate("They rest.")
    dual = Subject("icl", extreme("power"), "dual")
    preamble = preamble_of(pack, dual, ["power", "hedonism"])
    assert pack.describe(extreme("power")) in preamble
    assert "power, hedonism" in preamble
    assert as_text(preamble, "x", "base") == f"{preamble}\n\nx"
    assert as_text("", "x", "base") == "x"


class Chat:
    """A tokenizer with a chat template that may refuse a system message."""

    chat_template = "yes"

    def __init__(self, system: bool):
        self.system = system

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        if messages[0]["role"] == "system" and not self.system:
            raise ValueError("System role not supported")
        return "|".join(f"{m['role']}:{m['content']}" for m in messages)


def test_chat_uses_the_models_template_and_folds_the_system_message() -> None:
    assert as_text("be kind", "hi", "chat", Chat(True)) == "system:be kind|user:hi"
    assert as_text("be kind", "hi", "chat", Chat(False)) == "user:be kind\n\nhi"
    assert as_text("", "hi", "chat", Chat(False)) == "user:hi"


def test_chat_without_a_template_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="no chat template"):
        as_text("", "hi", "chat", object())


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
