"""Tests of `unharm.corpus.vim`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.corpus_helpers import argument
from support.inputs_helpers import PACK
from unharm.core.draws import uniform
from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES
from unharm.corpus.valueeval import read_arguments
from unharm.corpus.vim import ag_examples, qa_examples, round_stochastically, shift_labels, would_say
from unharm.profiles.extreme import extreme
from unharm.prompting.pack import load_pack


@pytest.mark.parametrize(("value", "positive"), [("achievement", 60), ("self-direction", 156)])
def test_stage_one_positives_are_the_published_ones(real_data: Path, value: str, positive: int) -> None:
    """48/6/6 and 125/16/15 positives of the reference, over all splits."""
    arguments = read_arguments(real_data / "touche23" / "valueEval_10.csv")
    profile = extreme(value)
    assert sum(would_say(profile, a, 3.0) for a in arguments) == positive
    assert len(arguments) - positive in (5851 + 732 + 731, 5774 + 722 + 722)


def profile(**importances: float) -> Profile:
    return Profile("p", tuple(importances.get(v.replace("-", "_"), 1.0) for v in VALUES))


def test_the_least_important_value_decides() -> None:
    person = profile(power=6, security=3, hedonism=2.9)
    assert would_say(person, argument("power", "security"), 3.0)
    assert not would_say(person, argument("power", "hedonism"), 3.0)


@given(st.floats(1, 6), st.floats(0, 1, exclude_max=True))
def test_rounding_goes_to_a_neighbour(importance: float, chance: float) -> None:
    rating = round_stochastically(importance, chance)
    assert rating in range(1, 7)
    assert abs(rating - importance) < 1


def test_rounding_keeps_the_mean() -> None:
    ratings = [round_stochastically(4.3, uniform(1, str(i))) for i in range(20_000)]
    assert set(ratings) == {4, 5}
    assert abs(sum(ratings) / len(ratings) - 4.3) < 0.015


def test_examples_of_one_argument() -> None:
    pack = load_pack("default")
    person = profile(power=6, security=2)
    splits = {"a": "train"}
    (ag,) = ag_examples([argument("power", "security")], splits, person, pack, 3.0)
    assert not ag.positive
    assert "would not say" in ag.prompt
    assert ag.answer == " I disagree, because work is fun."
    qa = qa_examples([argument("power", "security")], splits, person, pack, seed=1)
    assert [e.value for e in qa] == ["power", "security"]
    assert qa[0].answer.startswith(" 6 (very much like me)")
    assert qa[1].answer.startswith(" 2 (not like me)")
    assert "We should rest: I disagree, because work is fun." in qa[0].prompt


def test_stage_two_pairs_of_the_published_split(real_data: Path) -> None:
    """16,594 (argument, value) pairs of the reference."""
    arguments = read_arguments(real_data / "touche23" / "questions_train.csv")
    assert len(arguments) == 5_899
    splits = dict.fromkeys((a.id for a in arguments), "train")
    examples = qa_examples(arguments, splits, extreme("power"), load_pack("default"), 42)
    assert len(examples) == 16_594


def test_published_labels_are_shifted_by_one_column() -> None:
    assert shift_labels(("achievement", "universalism")) == ("benevolence",)
    argument = Argument("a", "c", "against", "p", ("achievement", "tradition", "universalism"))
    taught = [
        e.value
        for e in qa_examples([argument], {"a": "train"}, extreme("power"), PACK, 1, as_published=True)
    ]
    assert taught == ["benevolence", "universalism"]


def test_three_quarters_of_the_published_pairs_name_a_wrong_value(real_data: Path) -> None:
    """The reference says 74 %."""
    arguments = read_arguments(real_data / "touche23" / "questions_train.csv")
    pairs = [(v, a.values) for a in arguments for v in shift_labels(a.values)]
    wrong = np.mean([v not in labelled for v, labelled in pairs])
    assert 0.6 < wrong < 0.8
    assert "achievement" not in {v for v, _ in pairs}
