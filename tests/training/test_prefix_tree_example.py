"""The worked example in the docstring of `training/prefix_tree.py`."""

from __future__ import annotations

from support.tree_example import LETTERS, example_row


def test_six_tokens_stand_for_eleven() -> None:
    packed = example_row()
    assert [LETTERS[i] for i in packed.ids[0].tolist()] == list("ADEFBC")
    assert packed.positions[0].tolist() == [0, 3, 3, 2, 1, 2]
    assert packed.predictors == 2
    assert packed.tokens == 6


def test_who_predicts_what() -> None:
    packed = example_row()
    predictors = "BC"
    pairs = [
        predictors[row] + LETTERS[label]
        for row, label in zip(packed.label_row.tolist(), packed.label.tolist(), strict=True)
    ]
    assert sorted(pairs) == ["BC", "BC", "BF", "CD", "CE"]


def test_who_attends_to_whom() -> None:
    packed = example_row()
    letter = [LETTERS[i] for i in packed.ids.flatten().tolist()]
    attends: dict[str, str] = {}
    blocks = set()
    for bucket in packed.buckets:
        for queries, keys, allowed in zip(bucket.queries, bucket.keys, bucket.allowed, strict=True):
            for query, row in zip(queries.tolist(), allowed, strict=True):
                seen = "".join(letter[k] for k in keys[row].tolist())
                if letter[query] == seen[-1]:  # padding queries see only their first key
                    attends[letter[query]] = seen
            names = dict.fromkeys(letter[q] for q in queries.tolist())
            blocks.add("".join(names))
    assert blocks == {"ABCD", "E", "F"}
    assert attends == {"A": "A", "B": "AB", "C": "ABC", "D": "ABCD", "E": "ABCE", "F": "ABF"}
