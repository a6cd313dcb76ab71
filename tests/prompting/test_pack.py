"""The prompt pack: slots and wordings are checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.profiles.extreme import extreme
from unharm.prompting.compose import Composer
from unharm.prompting.pack import EMBEDDED, cut_to, load_pack


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_packs_are_whole(name: str) -> None:
    pack = load_pack(name)
    described = pack.describe_profile(extreme("power"))
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


def test_a_pack_takes_what_it_leaves_out_from_another(tmp_path: Path) -> None:
    path = tmp_path / "pack.yaml"
    path.write_text("extends: default\nqa: {answer: 'I say {rating}.'}\n")
    pack, default = load_pack(str(path)), load_pack("default")
    assert pack.rating_answer("power", 3) == "I say 3."
    assert pack.text("qa", "prompt") == default.text("qa", "prompt")
    assert pack.key != default.key
    path.write_text("extends: defualt\n")
    with pytest.raises(UserError, match=r"unknown pack 'defualt'"):
        load_pack(str(path))
    path.write_text("extends: default\nqa: {answer: no number}\n")
    with pytest.raises(UserError, match=r"pack.yaml:2.*qa.answer: the slot \{rating\} is missing"):
        load_pack(str(path))


def test_an_answer_that_begins_with_the_value_has_no_options() -> None:
    assert Composer(load_pack("default"), "", "rate", "base").options[0] == " 1"
    first = Composer(load_pack("value-first"), "", "rate", "base")
    assert (first.options, first.plain_ratings[0]) == ((), " 1")
    assert Composer(load_pack("value-first"), "", "rate", "chat").plain_ratings[5] == "6"
    assert load_pack("value-first").rating_answer("power", 6) == " power: 6"


@pytest.mark.parametrize("name", EMBEDDED)
def test_controls_are_as_long_as_the_guards_they_stand_for(name: str) -> None:
    pack = load_pack(name)
    for values in (["power"], ["self-direction", "hedonism"]):
        neutral, dual = pack.strategy_text("neutral", values), pack.strategy_text("dual", values)
        assert len(neutral.split()) == len(dual.split())
        assert not any(value in neutral for value in VALUES)
        assert pack.strategy_text("wrong-value", values) == pack.strategy_text("value", values)
    assert len(pack.strategy_text("neutral", []).split()) == len(pack.strategy_text("safety", []).split())
    assert cut_to("one two three", 5) == "one two three one two."


def test_a_pack_can_word_its_control_and_needs_no_other_adapters(tmp_path: Path) -> None:
    pack = load_pack("default")
    path = tmp_path / "pack.yaml"
    path.write_text(yaml.safe_dump(pack.data | {"controls": {"neutral": "The page is blue."}}))
    other = load_pack(str(path))
    assert other.strategy_text("neutral", ["power"]).startswith("The page is blue. The page")
    assert other.key == pack.key
    assert "unknown slot {x}" in broken(tmp_path, {"controls": {"neutral": "{x}"}})


def test_answers_of_stage_2_are_known_by_their_wording() -> None:
    default, short = load_pack("default"), load_pack("value-first")
    for pack in (default, short, load_pack("toy")):
        assert pack.is_rating_answer(pack.rating_answer("self-direction", 6))
    assert short.is_rating_answer("Benevolence: 1")
    assert default.is_rating_answer("6 (very much like me). For me power") is False  # cut before its end
    assert not default.is_rating_answer("1. Use fresh flour. 2. Wait.")
    assert not short.is_rating_answer("Benevolence means to care for others.")
    assert not short.is_rating_answer("")
