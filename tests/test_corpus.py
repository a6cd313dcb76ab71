"""Arguments and the examples of both stages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.draws import uniform
from unharm.core.errors import UserError
from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES
from unharm.corpus.benign import load_benign
from unharm.corpus.valueeval import draw_arguments, read_arguments, split_arguments
from unharm.corpus.vim import ag_examples, qa_examples, round_stochastically, would_say
from unharm.profiles.extreme import extreme
from unharm.prompting.pack import load_pack

HEADER = "\tConclusion\tStance\tPremise\t" + "\t".join(v.capitalize() for v in VALUES)


def test_the_toy_corpus_is_large_enough(toy_data: Path) -> None:
    arguments = read_arguments(toy_data / "arguments.tsv")
    assert len(arguments) >= 400
    assert {a.stance for a in arguments} == {"in favor of", "against"}
    assert all(sum(v in a.values for a in arguments) >= 40 for v in VALUES)


def test_real_arguments(real_data: Path) -> None:
    arguments = read_arguments(real_data / "touche23" / "valueEval_10.csv")
    assert len(arguments) == 7_374
    assert len({a.id for a in arguments}) == 7_374
    splits = split_arguments(arguments, (0.8, 0.1, 0.1), 42)
    parts: dict[tuple[str, str, str], set[str]] = {}
    for a in arguments:
        parts.setdefault((a.conclusion, a.stance, a.premise), set()).add(splits[a.id])
    assert len(parts) < 7_374
    assert all(len(found) == 1 for found in parts.values())


@pytest.mark.parametrize(("value", "positive"), [("achievement", 60), ("self-direction", 156)])
def test_stage_one_positives_are_the_published_ones(real_data: Path, value: str, positive: int) -> None:
    """48/6/6 and 125/16/15 positives of the reference, over all splits."""
    arguments = read_arguments(real_data / "touche23" / "valueEval_10.csv")
    profile = extreme(value)
    assert sum(would_say(profile, a, 3.0) for a in arguments) == positive
    assert len(arguments) - positive in (5851 + 732 + 731, 5774 + 722 + 722)


def profile(**importances: float) -> Profile:
    return Profile("p", tuple(importances.get(v.replace("-", "_"), 1.0) for v in VALUES))


def argument(*values: str, identity: str = "a") -> Argument:
    return Argument(identity, "We should rest", "against", "work is fun", values)


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


@given(st.integers(10, 300), st.integers(0, 5))
def test_splits_share_no_argument_and_cover_all(n: int, seed: int) -> None:
    arguments = [argument("power", identity=str(i)) for i in range(n)]
    splits = split_arguments(arguments, (0.8, 0.1, 0.1), seed)
    assert set(splits) == {a.id for a in arguments}
    assert abs(sum(s == "train" for s in splits.values()) - 0.8 * n) <= 1
    assert splits == split_arguments(arguments[::-1], (0.8, 0.1, 0.1), seed)


def test_a_smaller_draw_is_part_of_a_larger_one() -> None:
    arguments = [argument("power", identity=str(i)) for i in range(50)]
    small, large = draw_arguments(arguments, 10, 3), draw_arguments(arguments, 20, 3)
    assert {a.id for a in small} < {a.id for a in large}
    assert [a.id for a in draw_arguments(arguments, None, 3)] == [a.id for a in arguments]


def test_all_wrong_rows_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    rows = [
        "0\tC\tin favour of\tP\t1" + "\t0" * 9,
        "1\tC\tneutral\tP\t1" + "\t0" * 9,
        "2\tC\tagainst\tP" + "\t0" * 10,
        "3\tC\tagainst\tP\t2" + "\t0" * 9,
        "4\t\tagainst\tP\t1" + "\t0" * 9,
    ]
    path.write_text("\n".join([HEADER, *rows]))
    with pytest.raises(UserError) as caught:
        read_arguments(path)
    told = str(caught.value)
    assert len(caught.value.problems) == 4
    for line, text in ((3, "the stance is 'neutral'"), (4, "without any value"), (5, "achievement is '2'"),
                       (6, "an empty conclusion")):  # fmt: skip
        assert f"{path}:{line}: " in told
        assert text in told


def test_many_wrong_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("\n".join([HEADER, *["0\tC\tneutral\tP\t1" + "\t0" * 9] * 100]))
    with pytest.raises(UserError, match="and 80 more problems") as caught:
        read_arguments(path)
    assert len(caught.value.problems) == 21


def test_grammar_holds_out_inputs(toy_data: Path) -> None:
    examples = load_benign("grammar", toy_data / "grammar.csv", load_pack("default"), 100, 1).examples
    assert len(examples) == 100
    train = {e.prompt for e in examples if e.split == "train"}
    valid = {e.prompt for e in examples if e.split == "valid"}
    assert not train & valid
    assert len(valid) == 10
    assert all(e.answer.startswith(" ") for e in examples)


def test_real_grammar(real_data: Path) -> None:
    path = real_data / "benign" / "gtrain_10k.csv"
    found = load_benign("grammar", path, load_pack("default"), None, 1)
    assert 12_000 < len(found.examples) <= 13_016
    assert found.notes == [f"{13_016 - len(found.examples)} repeated rows left out"]


def test_stage_two_pairs_of_the_published_split(real_data: Path) -> None:
    """16,594 (argument, value) pairs of the reference."""
    arguments = read_arguments(real_data / "touche23" / "questions_train.csv")
    assert len(arguments) == 5_899
    splits = dict.fromkeys((a.id for a in arguments), "train")
    examples = qa_examples(arguments, splits, extreme("power"), load_pack("default"), 42)
    assert len(examples) == 16_594
