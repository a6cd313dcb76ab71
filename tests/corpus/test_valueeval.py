"""Arguments: both formats, splits, draws, and what is wrong in a row."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from support.corpus_helpers import argument
from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.corpus.valueeval import draw_arguments, read_arguments, split_arguments

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


def release(folder: Path, arguments: list[str], labels: list[str]) -> Path:
    from importlib import resources

    twenty = yaml.safe_load((resources.files("unharm") / "corpus" / "touche20.yaml").read_text())
    assert len(twenty) == 20
    assert set(twenty.values()) == set(VALUES)
    head = "Argument ID\tConclusion\tStance\tPremise"
    (folder / "arguments-training.tsv").write_text("\n".join([head, *arguments]) + "\n")
    (folder / "labels-training.tsv").write_text(
        "\n".join(["Argument ID\t" + "\t".join(twenty), *labels]) + "\n"
    )
    return folder


def label(identity: str, *ones: int) -> str:
    return identity + "\t" + "\t".join("1" if i in ones else "0" for i in range(20))


def test_the_original_release_is_mapped_to_ten(tmp_path: Path) -> None:
    folder = release(
        tmp_path,
        ["A1\tC\tin favor of\tP", "A2\tC\tagainst\tQ"],
        [label("A2", 7, 13), label("A1", 0, 1, 19)],
    )
    found = read_arguments(folder)
    assert [a.values for a in found] == [("self-direction", "universalism"), ("power", "tradition")]


def test_problems_of_the_original_release_are_told_by_row(tmp_path: Path) -> None:
    folder = release(
        tmp_path,
        ["A1\tC\tmaybe\tP", "A2\tC\tagainst\tQ", "A3\tC\tagainst\tQ", "A3\tC\tagainst\tQ"],
        [label("A1", 1), label("A3"), label("A3", 2)],
    )
    with pytest.raises(UserError) as caught:
        read_arguments(folder)
    told = str(caught.value)
    for line in (
        "labels-training.tsv:4: the argument 'A3' is labelled twice",
        "arguments-training.tsv:2: the stance is 'maybe'",
        "arguments-training.tsv:3: the argument 'A2' has no row in labels*.tsv",
        "arguments-training.tsv:4: an argument without any value",
        "arguments-training.tsv:5: the argument 'A3' is given twice",
    ):
        assert line in told
    (folder / "labels-training.tsv").unlink()
    with pytest.raises(UserError, match=r"no labels\*.tsv"):
        read_arguments(folder)


def test_split_by_conclusion_keeps_conclusions_together(toy_data: Path) -> None:
    arguments = read_arguments(toy_data / "arguments.tsv")
    splits = split_arguments(arguments, (0.8, 0.1, 0.1), 42, by="conclusion")
    parts: dict[str, set[str]] = {}
    for a in arguments:
        parts.setdefault(a.conclusion, set()).add(splits[a.id])
    assert all(len(found) == 1 for found in parts.values())
    assert set(splits.values()) == {"train", "valid", "test"}
