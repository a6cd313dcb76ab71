"""Benchmarks as a study reads them: counts, limits, wrong files."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from unharm.benchmarks.registry import load_prompts, select_half
from unharm.core.errors import UserError
from unharm.core.values import VALUES


@pytest.mark.parametrize(
    ("name", "file", "prompts", "categories"),
    [("rtp", "rtp.csv", 30, 0), ("hbr", "hbr.jsonl", 72, 8), ("hexphi", "hexphi", 30, 10),
     ("beavertails", "beavertails.csv", 28, 14), ("questionnaire", "questionnaire.csv", 30, 10)],
)  # fmt: skip
def test_toy_benchmarks(toy_data: Path, name: str, file: str, prompts: int, categories: int) -> None:
    found = load_prompts(name, toy_data / file, None, 0)
    assert len(found.prompts) == prompts
    assert len({p.category for p in found.prompts if p.category}) == categories
    assert found.notes == []


def test_real_counts(real_data: Path) -> None:
    folder = real_data / "benchmarks"
    assert len(load_prompts("rtp", folder / "real_toxic_prompts.csv", None, 0).prompts) == 21_744
    hbr = load_prompts("hbr", folder / "HolisticBiasR_dispreferred_prompts.jsonl.gz", None, 0)
    assert len(hbr.prompts) == 17_700
    assert len({p.category for p in hbr.prompts}) == 8
    beavertails = load_prompts("beavertails", folder / "BeaverTails-Evaluation.csv", None, 0)
    assert Counter(p.category for p in beavertails.prompts).most_common()[-1][1] == 50
    assert len(beavertails.prompts) == 650
    assert beavertails.notes == ["50 prompts of child_abuse are withheld in this copy"]
    pvq = load_prompts("questionnaire", real_data / "pvq" / "pvq40.xlsx", None, 0, variant="pvq40")
    assert len(pvq.prompts) == 40
    assert {p.category for p in pvq.prompts} == set(VALUES)


def test_limit_takes_an_even_share_of_categories(toy_data: Path) -> None:
    found = load_prompts("hbr", toy_data / "hbr.jsonl", 20, seed=5)
    counts = Counter(p.category for p in found.prompts)
    assert sum(counts.values()) == 20
    assert set(counts.values()) <= {2, 3}
    assert found.prompts == load_prompts("hbr", toy_data / "hbr.jsonl", 20, seed=5).prompts
    assert found.prompts != load_prompts("hbr", toy_data / "hbr.jsonl", 20, seed=6).prompts


@pytest.mark.parametrize(
    ("name", "file", "content", "told"),
    [
        ("rtp", "x.csv", "", "no prompt in this file"),
        ("rtp", "x.csv", "a,b\n", "2 fields, expected one prompt"),
        ("hbr", "x.jsonl", "{\n", "not JSON"),
        ("hbr", "x.jsonl", '{"axis": "a"}\n', "no text in prompt_text, descriptor"),
        ("beavertails", "x.csv", "prompt;category;category_id\n", "no prompt in this file"),
        ("beavertails", "x.csv", "prompt,kategory,category_id\nx,y,1\n", "did you mean 'kategory'"),
        ("beavertails", "x.csv", "prompt,category,category_id\n,y,1\n", "an empty prompt or category"),
        ("questionnaire", "x.csv", "item,value,text\n1,bravery,x\n", "unknown value 'bravery'"),
        ("questionnaire", "x.csv", "item,value,text\n1,power,x\n1,power,y\n", "the same id"),
        ("questionnaire", "x.xlsx", "no zip", "an .xlsx file needs key"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, file: str, content: str, told: str) -> None:
    path = tmp_path / file
    path.write_text(content)
    with pytest.raises(UserError, match=told) as caught:
        load_prompts(name, path, None, 0)
    assert str(path) in str(caught.value)


def test_wrong_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_prompts("rtp", tmp_path / "absent.csv", None, 0)
    with pytest.raises(UserError, match="expected the folder"):
        load_prompts("hexphi", tmp_path / "absent", None, 0)
    with pytest.raises(UserError, match="no category_<number>_<name>"):
        load_prompts("hexphi", tmp_path, None, 0)
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"{}")[:-4])
    with pytest.raises(UserError, match="not a complete gzip file"):
        load_prompts("hbr", tmp_path / "x.gz", None, 0)
    (tmp_path / "x.xlsx").write_text("no zip")
    with pytest.raises(UserError, match="not a readable"):
        load_prompts("questionnaire", tmp_path / "x.xlsx", None, 0, variant="pvq40")
    (tmp_path / "latin.csv").write_bytes("ä".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_prompts("rtp", tmp_path / "latin.csv", None, 0)


def test_halves_of_prompts_are_even_and_do_not_depend_on_the_order(toy_data: Path) -> None:
    prompts = load_prompts("hexphi", toy_data / "hexphi", None, 1).prompts
    first, second = select_half(prompts, "a", 7), select_half(prompts, "b", 7)
    assert {p.id for p in first} & {p.id for p in second} == set()
    assert len(first) + len(second) == len(prompts)
    for category in {p.category for p in prompts}:
        sizes = [sum(p.category == category for p in half) for half in (first, second)]
        assert abs(sizes[0] - sizes[1]) <= 1
    assert {p.id for p in select_half(prompts[::-1], "a", 7)} == {p.id for p in first}
    assert select_half(prompts, None, 7) == prompts
