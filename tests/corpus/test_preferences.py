"""Tests of `unharm.corpus.preferences`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unharm.core.records import Argument, Split
from unharm.corpus.preferences import preference_examples, preference_pairs
from unharm.prompting.pack import load_pack

ARGUMENTS = [Argument(f"a{n}", f"topic {n % 4}", "against", f"reason {n}", ("power",)) for n in range(24)]


@given(st.lists(st.booleans(), min_size=24, max_size=24), st.integers(0, 99))
def test_pairs_are_of_one_topic_and_one_split_and_use_every_argument_of_a_mixed_topic(
    would: list[bool], seed: int
) -> None:
    splits: dict[str, Split] = {a.id: "valid" if n % 5 == 0 else "train" for n, a in enumerate(ARGUMENTS)}
    pairs = preference_pairs(ARGUMENTS, would, splits, seed)
    says = {a.id: w for a, w in zip(ARGUMENTS, would, strict=True)}
    assert len({(one.id, other.id) for one, other in pairs}) == len(pairs)
    for said, unsaid in pairs:
        assert (says[said.id], says[unsaid.id]) == (True, False)
        assert (said.conclusion, splits[said.id]) == (unsaid.conclusion, splits[unsaid.id])
    used = {a.id for pair in pairs for a in pair}
    for argument in ARGUMENTS:
        place = argument.conclusion, splits[argument.id]
        kinds = {says[a.id] for a in ARGUMENTS if (a.conclusion, splits[a.id]) == place}
        assert (argument.id in used) == (len(kinds) == 2)


def test_a_pair_answers_one_prompt() -> None:
    splits: dict[str, Split] = {a.id: "train" for a in ARGUMENTS}
    pairs = preference_pairs(ARGUMENTS, [n % 8 < 4 for n in range(24)], splits, 1)
    examples = preference_examples(pairs, splits, load_pack("default"))
    assert len(examples) == 2 * len(pairs) > 0
    for chosen, rejected in zip(examples[::2], examples[1::2], strict=True):
        assert (chosen.id, chosen.prompt) == (rejected.id, rejected.prompt)
        assert (chosen.positive, rejected.positive) == (True, False)
        assert chosen.answer != rejected.answer
