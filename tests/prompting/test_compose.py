"""Tests of `unharm.prompting.compose`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from unharm.core.errors import UserError
from unharm.core.records import Subject
from unharm.profiles.extreme import extreme
from unharm.prompting.compose import (
    ChatForm,
    Composer,
    apply_mode,
    build_preamble,
    default_system,
    format_text,
    system_message,
)
from unharm.prompting.pack import load_pack
from unharm.runs import keys
from unharm.runs.plan import Plan

TEMPLATES = {
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set before = '<<SYS>>' + messages[0]['content'] + '<</SYS>>' %}"
    "{% set turns = messages[1:] %}{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}"
    "{{ bos_token }}[INST] {{ before }}{{ turns[0]['content'] }} [/INST]",
    "llama-3.1": "{% for m in messages %}<|start|>{{ m['role'] }}<|stop|>{{ m['content'] }}<|turn|>{% endfor %}"
    "<|start|>assistant<|stop|>",
    "gemma-2": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] | trim }}</turn>{% endfor %}<turn>model\n",
    "gemma-3": "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "<turn>user\n{{ first }}{{ turns[0]['content'] | trim }}</turn><turn>model\n",
    "qwen-2.5": "{% if messages[0]['role'] != 'system' %}<im>system\nA helper.</im>{% endif %}"
    "{% for m in messages %}<im>{{ m['role'] }}\n{{ m['content'] }}</im>{% endfor %}<im>assistant\n",
}
"""Templates of ours that treat roles as those of these families do."""


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_chat_templates_with_and_without_a_system_role(family: str, tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = TEMPLATES[family]
    text = format_text("Be kind.", "How do I bake bread?", "chat", tokenizer)
    assert text.count("Be kind.") == 1
    assert text.index("Be kind.") < text.index("How do I bake bread?")
    bare = format_text("", "How do I bake bread?", "chat", tokenizer)
    assert "Be kind." not in bare
    pack = load_pack("default")
    compose = Composer(pack, "Be kind.", "ask", "chat", tokenizer)
    texts = [compose.text(t) for t in ("How do I bake bread?", "Why does it rain?")]
    assert len({t[: compose.prefix] for t in texts}) == 1
    assert compose.prefix >= texts[0].index("Be kind.") + len("Be kind.")
    assert not any(t[: compose.prefix].endswith(("How", "Why")) for t in texts)


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_a_preamble_is_added_to_the_system_message_of_the_template(family: str, tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = TEMPLATES[family]
    own = default_system(tokenizer)
    assert own == ("A helper." if family == "qwen-2.5" else "")
    pack = load_pack("default")
    assert Composer(pack, "", "ask", "chat", tokenizer).text("x").count("A helper.") == bool(own)
    guarded = Composer(pack, "Be kind.", "ask", "chat", tokenizer)
    assert guarded.text("x").count("A helper.\n\nBe kind.") == bool(own)
    named = Composer(pack, "Be kind.", "ask", "chat", tokenizer, ChatForm(system="You bake."))
    assert "A helper." not in named.text("x")  # the study's own message takes its place, as in training


@pytest.mark.parametrize("family", list(TEMPLATES))
def test_without_a_system_message_the_templates_own_is_left_out(family: str, tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = TEMPLATES[family]
    pack, bare = load_pack("default"), ChatForm(bare=True)
    plain = Composer(pack, "", "ask", "chat", tokenizer, bare).text("x")
    assert "A helper." not in plain
    if family != "qwen-2.5":  # nothing to leave out: as with the template's own
        assert plain == Composer(pack, "", "ask", "chat", tokenizer).text("x")
    guarded = Composer(pack, "Be kind.", "ask", "chat", tokenizer, bare).text("x")
    assert (guarded.count("Be kind."), guarded.count("A helper.")) == (1, 0)
    assert system_message(bare, tokenizer) == ""
    assert system_message(ChatForm(), tokenizer) == ("A helper." if family == "qwen-2.5" else "")
    assert system_message(ChatForm(system="You bake."), tokenizer) == "You bake."
    served = Composer(pack, "", "ask", "messages", form=bare).messages("x")
    assert served[0] == ("system", "")


def test_messages_of_a_served_model() -> None:
    compose = Composer(load_pack("default"), "Be kind.", "continue", "messages")
    worded = load_pack("default").chat_text("continue").format(prompt="On Sundays")
    assert compose.messages("On Sundays") == (("system", "Be kind."), ("user", worded))
    assert compose.text("On Sundays") == f"system: Be kind.\n\nuser: {worded}"
    assert Composer(load_pack("default"), "", "continue", "base").messages("x") == ()


def test_values_are_set_aside_by_category(tiny_study: dict[str, Any], load: Any) -> None:
    tiny_study |= {"arms": ["vanilla"], "strategies": ["input-only", "value", "dual"]}
    del tiny_study["corpus"]
    tiny_study["prompting"]["set_aside"] = {
        "adult_content": ["self-direction"],
        "malware": ["power", "hedonism"],
    }
    tiny_study["benchmarks"] = {"hexphi": {"file": "hexphi", "max_tokens": 2}}
    plan = Plan(load(tiny_study))
    texts: dict[tuple[str, str], str] = {}
    for subject in plan.subjects:
        for shard in keys.shards(plan, subject, "base", ""):
            categories = {p.id: p.category for p in shard.prompts}
            for request in keys.requests(plan, shard, None):
                texts[subject.strategy, categories[request.prompt_id]] = request.text
                assert request.text[: request.prefix] == request.text[: request.prefix]
    assert "self-direction" in texts["value", "adult_content"]
    assert "power, hedonism" in texts["dual", "malware"]
    safety = load_pack("toy").strategy_text("safety", [])
    assert safety in texts["dual", "economic_harm"], "without a value dual is the safety prompt"
    assert texts["value", "economic_harm"].startswith(texts["input-only", "economic_harm"][:10])
    other = Plan(load(tiny_study, "prompting.set_aside.malware=[power]"))
    subjects = {s.strategy: s for s in plan.subjects}
    same = {
        n: keys.subject_key(plan, s, "b", "") == keys.subject_key(other, s, "b", "")
        for n, s in subjects.items()
    }
    assert same == {"input-only": True, "value": False, "dual": False}


def test_no_value_is_no_empty_sentence() -> None:
    pack = load_pack("default")
    assert build_preamble(pack, Subject("vanilla", None, "value"), []) == ""
    assert build_preamble(pack, Subject("vanilla", None, "dual"), []) == pack.strategy_text("safety", [])


def test_strategies_and_profiles_come_before_the_prompt() -> None:
    pack = load_pack("default")
    plain = Subject("vanilla", None, "input-only")
    assert build_preamble(pack, plain, []) == ""
    assert apply_mode(pack, "Once", "continue") == "Once"
    assert apply_mode(pack, "Why?", "ask") == "Question: Why?\nAnswer:"
    assert apply_mode(pack, "They rest.", "rate") == pack.rating_prompt("They rest.")
    dual = Subject("icl", extreme("power"), "dual")
    preamble = build_preamble(pack, dual, ["power", "hedonism"])
    assert pack.describe_profile(extreme("power")) in preamble
    assert "power, hedonism" in preamble
    assert format_text(preamble, "x", "base") == f"{preamble}\n\nx"
    assert format_text("", "x", "base") == "x"


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
    assert format_text("be kind", "hi", "chat", Chat(True)) == "system:be kind|user:hi"
    assert format_text("be kind", "hi", "chat", Chat(False)) == "user:be kind\n\nhi"
    assert format_text("", "hi", "chat", Chat(False)) == "user:hi"


def test_chat_without_a_template_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="no chat template"):
        format_text("", "hi", "chat", object())


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{% if %}",
        "{{ a.b.c }}",
    ],
)
def test_a_template_that_is_refused_or_breaks_is_one_message(template: str, tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template = template
    with pytest.raises(UserError, match="chat template of the base cannot be used"):
        format_text("Be kind.", "How do I bake bread?", "chat", tokenizer)
