"""The loaders: real formats, real counts, and what is wrong in a file."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from unharm.benchmarks import questionnaire
from unharm.benchmarks.registry import load_prompts
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


def test_pvq40_key_covers_every_item_once() -> None:
    numbers = sorted(n for items in questionnaire.PVQ40.values() for n in items)
    assert numbers == list(range(1, 41))


def test_limit_takes_an_even_share_of_categories(toy_data: Path) -> None:
    found = load_prompts("hbr", toy_data / "hbr.jsonl", 20, seed=5)
    counts = Counter(p.category for p in found.prompts)
    assert sum(counts.values()) == 20
    assert set(counts.values()) <= {2, 3}
    assert found.prompts == load_prompts("hbr", toy_data / "hbr.jsonl", 20, seed=5).prompts
    assert found.prompts != load_prompts("hbr", toy_data / "hbr.jsonl", 20, seed=6).prompts


def test_rtp_limit_takes_the_first_as_published(toy_data: Path) -> None:
    assert [p.id for p in load_prompts("rtp", toy_data / "rtp.csv", 3, 0).prompts] == [
        "rtp-0",
        "rtp-1",
        "rtp-2",
    ]


def test_rtp_keeps_its_ids_past_empty_rows(tmp_path: Path) -> None:
    path = tmp_path / "rtp.csv"
    path.write_text('"One, two"\n""\n"with ""quotes"" and\na break"\n')
    found = load_prompts("rtp", path, None, 0)
    assert [(p.id, p.text) for p in found.prompts] == [
        ("rtp-0", "One, two"),
        ("rtp-2", 'with "quotes" and\na break'),
    ]
    assert found.notes == ["1 empty rows left out"]


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


def test_hexphi_notes_a_missing_category_but_not_the_withdrawn_one(tmp_path: Path) -> None:
    for number in (1, 3, 4, 5, 6, 7, 8, 9, 11):
        (tmp_path / f"category_{number}_c{number}.csv").write_text(f'"q, of {number}"\n')
    found = load_prompts("hexphi", tmp_path, None, 0)
    assert [p.id for p in found.prompts][:2] == ["hexphi-1-0", "hexphi-3-0"]
    assert found.prompts[0].text == "q, of 1"
    assert found.notes == ["category 10 has no file"]


def test_hbr_plain_and_gzip_are_the_same(tmp_path: Path, toy_data: Path) -> None:
    text = (toy_data / "hbr.jsonl").read_text()
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert (
        load_prompts("hbr", path, None, 0).prompts
        == load_prompts("hbr", toy_data / "hbr.jsonl", None, 0).prompts
    )
    first = json.loads(text.splitlines()[0])
    assert (
        load_prompts("hbr", path, None, 0).prompts[0].attributes["group"] == first["formatted_noun_phrase"]
    )


def rtp_row(number: int, toxicity: float | None, **more: object) -> dict[str, object]:
    prompt = {"text": f"The child number {number} said", "toxicity": toxicity}
    return {
        "filename": f"{number}-ab.txt",
        "begin": 0,
        "end": 9,
        "challenging": False,
        "prompt": prompt,
    } | more


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.jsonl.gz"])
def test_the_original_rtp_tells_toxic_prompts_apart(tmp_path: Path, name: str) -> None:
    rows = [rtp_row(1, 0.5), rtp_row(2, 0.49), rtp_row(3, None), rtp_row(4, 0.9, prompt={"text": " "})]
    text = "\n".join(json.dumps(r) for r in rows).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    found = load_prompts("rtp", tmp_path / name, None, 0)
    assert [(p.id, p.category) for p in found.prompts] == [
        ("rtp-1-ab-0", "toxic"), ("rtp-2-ab-0", "non-toxic"), ("rtp-3-ab-0", "unrated"),
    ]  # fmt: skip
    assert found.notes == ["1 empty rows left out"]


def test_wrong_rows_of_the_original_files_are_told_together(tmp_path: Path) -> None:
    rows = [
        json.dumps(rtp_row(1, 0.5)),
        "{",
        json.dumps({"prompt": "x"}),
        json.dumps({"prompt": {"text": "x"}}),
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError) as error:
        load_prompts("rtp", tmp_path / "p.jsonl", None, 0)
    told = str(error.value)
    assert "p.jsonl:2: RealToxicityPrompts: not JSON" in told
    assert "p.jsonl:3: RealToxicityPrompts: no text in prompt.text" in told
    assert "p.jsonl:4: RealToxicityPrompts: no filename" in told
    (tmp_path / "twice.jsonl").write_text("\n".join([json.dumps(rtp_row(1, 0.5))] * 2))
    with pytest.raises(UserError, match="several prompts have the same id: rtp-1-ab-0"):
        load_prompts("rtp", tmp_path / "twice.jsonl", None, 0)


def test_beavertails_as_the_original_json(tmp_path: Path) -> None:
    rows = [
        {"prompt": "How do I bake?", "category": "drugs", "category_id": "3"},
        {"prompt": "[withheld]", "category": "other", "category_id": "4"},
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    found = load_prompts("beavertails", tmp_path / "test.json", None, 0)
    assert [(p.id, p.text, p.category) for p in found.prompts] == [
        ("beavertails-0", "How do I bake?", "drugs")
    ]
    assert found.notes == ["1 prompts of other are withheld in this copy"]
    (tmp_path / "test.json").write_text(json.dumps([*rows, {"prompt": 3, "category": "x"}, "no"]))
    with pytest.raises(UserError) as error:
        load_prompts("beavertails", tmp_path / "test.json", None, 0)
    assert "item 3: BeaverTails-Evaluation: no text in prompt" in str(error.value)
    assert "item 4: BeaverTails-Evaluation: expected an object" in str(error.value)


def holistic_bias(folder: Path) -> Path:
    """A small folder in the published format."""
    folder.mkdir()
    descriptors = {
        "ability": {"visual": [{"descriptor": "near-sighted", "preference": "dispreferred"}, "tall"]},
        "age": {
            "old": [
                {"descriptor": "hourly", "article": "an", "gender": "female", "preference": "dispreferred"}
            ]
        },
    }
    standalone = {
        "ability": [{"noun_phrase": "{article} {noun} with a cold", "preference": "dispreferred"}],
        "religion": ["a Reader", {"noun_phrase": "an Owl", "preference": "dispreferred"}],
    }
    nouns = {"female": [["aunt", "aunts"]], "neutral": [["person", "people"]]}
    (folder / "descriptors.json").write_text(json.dumps(descriptors))
    (folder / "standalone_noun_phrases.json").write_text(json.dumps(standalone))
    (folder / "nouns.json").write_text(json.dumps(nouns))
    (folder / "templates.txt").write_text("{noun_phrase} sat by\n\n{noun_phrase} ran to\n")
    return folder


def test_hbr_is_built_from_descriptors_and_nouns(tmp_path: Path) -> None:
    folder = holistic_bias(tmp_path / "hb")
    found = load_prompts("hbr", folder, None, 0, variant="dispreferred")
    groups = {p.attributes["descriptor"] for p in found.prompts}
    assert groups == {
        "The near-sighted aunt", "The near-sighted person", "The hourly aunt", "The aunt with a cold",
        "The person with a cold", "The Owl",
    }  # fmt: skip
    assert len(found.prompts) == 12
    assert Counter(p.category for p in found.prompts) == {"ability": 8, "age": 2, "religion": 2}
    assert all(p.text.startswith(p.attributes["group"]) for p in found.prompts)
    assert len(load_prompts("hbr", folder, None, 0).prompts) == 18
    (folder / "standalone_noun_phrases.json").unlink()
    assert "standalone noun phrases are missing" in load_prompts("hbr", folder, None, 0).notes[0]
    with pytest.raises(UserError, match="there are: dispreferred, no_data"):
        load_prompts("hbr", folder, None, 0, variant="prefered")


def test_a_broken_holistic_bias_folder_is_told(tmp_path: Path) -> None:
    folder = holistic_bias(tmp_path / "hb")
    (folder / "templates.txt").write_text("sat by\n")
    with pytest.raises(UserError, match="a template without"):
        load_prompts("hbr", folder, None, 0)
    (folder / "templates.txt").write_text("{noun_phrase} sat by\n")
    (folder / "descriptors.json").write_text('{"a": {"b": [{"preference": "x"}, ""]}}')
    with pytest.raises(UserError, match="an entry of 'a' without 'descriptor'"):
        load_prompts("hbr", folder, None, 0)
    (folder / "nouns.json").write_text('["woman"]')
    with pytest.raises(UserError, match="pairs of singular and plural"):
        load_prompts("hbr", folder, None, 0)


def test_the_built_prompts_are_those_of_the_published_generator(real_data: Path, tmp_path: Path) -> None:
    """Descriptors and nouns are read back from the real file; building gives its 17,700 prompts, but
    for hyphens and capitals, which are drawn."""
    file = real_data / "benchmarks" / "HolisticBiasR_dispreferred_prompts.jsonl.gz"
    with gzip.open(file, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    nouns: dict[str, dict[str, str]] = {}
    descriptors: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    standalone: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        phrase, noun = row["noun_phrase"], row["noun"]
        if noun != "(none)":
            nouns.setdefault(row["noun_gender"], {})[noun] = row["plural_noun"]
        if row["noun_phrase_type"] == "descriptor_noun":
            article, rest = phrase.split(" ", 1)
            text = rest.removesuffix(f" {noun}")
            entry = {"descriptor": text, "article": article, "preference": "dispreferred"}
            descriptors.setdefault(row["axis"], {}).setdefault(row["bucket"], {})[text] = entry
        else:
            text = phrase if noun == "(none)" else "{article} {noun}" + phrase.partition(f" {noun}")[2]
            entry = {"noun_phrase": text, "preference": "dispreferred"}
            standalone.setdefault(row["axis"], {})[text] = entry
    (tmp_path / "nouns.json").write_text(json.dumps({g: list(n.items()) for g, n in nouns.items()}))
    inside = {a: {b: list(e.values()) for b, e in buckets.items()} for a, buckets in descriptors.items()}
    (tmp_path / "descriptors.json").write_text(json.dumps(inside))
    listed = {a: list(e.values()) for a, e in standalone.items()}
    (tmp_path / "standalone_noun_phrases.json").write_text(json.dumps(listed))
    (tmp_path / "templates.txt").write_text("\n".join(dict.fromkeys(r["template"] for r in rows)))
    built = load_prompts("hbr", tmp_path, None, 0, variant="dispreferred").prompts

    def plain(text: str) -> str:
        return text.lower().replace("-", " ")

    expected = Counter((r["axis"], r["template"], plain(r["prompt_text"])) for r in rows)
    assert Counter((p.category, p.attributes["template"], plain(p.text)) for p in built) == expected
    assert len(built) == 17_700
    hyphens = sum("-" in p.attributes["group"] for p in built) / sum(
        "-" in p.attributes["descriptor"] for p in built
    )
    assert 0.4 < hyphens < 0.6
