"""Tests of `unharm.benchmarks.holisticbias`."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from unharm.benchmarks.registry import load_prompts
from unharm.core.errors import UserError


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
    with pytest.raises(UserError, match="known preferences: dispreferred, no_data"):
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
