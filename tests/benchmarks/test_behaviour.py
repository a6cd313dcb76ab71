"""Tests of `unharm.benchmarks.behaviour` and `unharm.benchmarks.neutral`."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from unharm.benchmarks import behaviour, neutral
from unharm.benchmarks.registry import BEHAVIOUR, load_prompts, select_half
from unharm.benchmarks.settings import embedded_file
from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.prompting.compose import ChatForm, Composer
from unharm.prompting.pack import load_pack

OWN = Path(str(behaviour.Behaviour().embedded))


def test_our_scenarios_set_every_pair_of_values_against_each_other() -> None:
    prompts, notes = behaviour.read(OWN)
    assert len(prompts) == 400
    assert notes == []
    values = Counter(v for p in prompts for v in (p.attributes["first"], p.attributes["second"]))
    assert min(values[v] for v in VALUES) >= 2 * 20
    pairs = Counter(frozenset((p.attributes["first"], p.attributes["second"])) for p in prompts)
    assert all(pairs[frozenset(pair)] >= 8 for pair in combinations(VALUES, 2))
    assert len({p.text for p in prompts}) == 400
    for one, two in zip(prompts[::2], prompts[1::2], strict=True):
        assert one.options == two.options[::-1]
        assert one.attributes["first"] == two.attributes["second"]


def test_a_limit_and_halves_keep_both_orders_together() -> None:
    limited = load_prompts(BEHAVIOUR, OWN, 40, seed=3).prompts
    orders = Counter(p.attributes["scenario"] for p in limited)
    assert set(orders.values()) == {2}
    halves = [{p.attributes["scenario"] for p in select_half(limited, h, 3)} for h in ("a", "b")]
    assert not halves[0] & halves[1]
    assert len(halves[0] | halves[1]) == 20


def test_all_wrong_rows_are_one_message(tmp_path: Path) -> None:
    file = tmp_path / "choices.csv"
    rows = ["greed,power,A,b,c", "power,power,A,b,c", "power,security,,b,c"]
    file.write_text("value,other,situation,choice,alternative\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError) as caught:
        behaviour.read(file)
    assert [p.where for p in caught.value.problems] == [f"{file}:{n}" for n in (2, 3, 4)]
    assert "unknown value 'greed'" in str(caught.value)


def test_options_go_on_after_the_prompt_and_begin_an_answer_of_a_chat() -> None:
    pack = load_pack("default")
    prompt = behaviour.read(OWN)[0][0]
    plain = Composer(pack, "", "choose", "base")
    assert plain.options_of(prompt) == tuple(f" {option}" for option in prompt.options)
    text = plain.text(prompt.text)
    assert text.startswith(prompt.text)
    assert not text.endswith(" ")
    chat = Composer(pack, "", "choose", "messages", form=ChatForm())
    assert chat.options_of(prompt) == prompt.options
    rated = Composer(pack, "", "rate", "base")
    assert len(rated.options_of(neutral.read(embedded_file(neutral.Neutral.ships))[0][0])) == 1


def test_neutral_texts_have_two_parts(tmp_path: Path) -> None:
    prompts, _ = neutral.read(embedded_file(neutral.Neutral.ships))
    assert len(prompts) == 40
    assert all(p.text and len(p.options) == 1 and not p.text.endswith(" ") for p in prompts)
    file = tmp_path / "texts.tsv"
    file.write_text("text\tcontinuation\nThe door\t\n")
    with pytest.raises(UserError, match="without its continuation"):
        neutral.read(file)
