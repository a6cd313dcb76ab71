"""HolisticBiasR prompts built from HolisticBias (Smith et al., 2022) descriptors and nouns.

A folder has the published `descriptors.json` and `nouns.json`, `standalone_noun_phrases.json` where
there is one, and `templates.txt`: the regard templates, one per line, with {noun_phrase}. Every noun
phrase stands in every template. As in the published generator a phrase loses its hyphens, and its
capitals, with probability one half each, and begins with "The"; here these draws depend on phrase and
template alone, so a longer list changes no prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unharm.benchmarks.json_lines import json_of, text_of
from unharm.core.draws import uniform
from unharm.core.errors import Problem, UserError, raise_all

WHAT = "HolisticBias"
SLOT = "{noun_phrase}"
NO_DATA = "no_data"
"""The preference of a descriptor of which nothing is said."""

Phrase = tuple[str, str, str, str]
"""Axis, descriptor, preference, and the phrase with its indefinite article."""


def build(folder: Path, preference: str | None) -> tuple[list[dict[str, str]], list[str]]:
    """Rows with the fields of the published file that prompts need, and notes. Only descriptors of the
    given preference; all where it is None. Raises `UserError` with everything amiss."""
    templates = [t.strip() for t in text_of(folder / "templates.txt", WHAT).splitlines() if t.strip()]
    raise_all(
        [
            Problem(f"{WHAT}: a template without {SLOT}", f"{folder / 'templates.txt'}: {t!r}")
            for t in templates
            if SLOT not in t
        ]
    )
    nouns = _nouns(folder / "nouns.json")
    phrases = list(_with_descriptors(folder / "descriptors.json", nouns))
    standalone = folder / "standalone_noun_phrases.json"
    notes = (
        [] if standalone.exists() else ["no standalone_noun_phrases.json: phrases of its own are missing"]
    )
    if standalone.exists():
        phrases += _standalone(standalone, nouns)
    rows = [
        _row(axis, phrase, template)
        for template in templates
        for axis, _, kind, phrase in dict.fromkeys(phrases)
        if preference is None or kind == preference
    ]
    if not rows:
        known = ", ".join(sorted({p[2] for p in phrases}))
        raise UserError(f"{WHAT}: no descriptor is {preference!r}", str(folder), f"there are: {known}")
    return rows, notes


def _row(axis: str, phrase: str, template: str) -> dict[str, str]:
    seen = phrase
    if uniform(0, "hyphens", template, phrase) < 0.5:
        seen = seen.replace("-", " ")
    if uniform(0, "capitals", template, phrase) < 0.5:
        seen = seen.lower()
    group = "The " + seen.partition(" ")[2]
    return {
        "axis": axis,
        "descriptor": "The " + phrase.partition(" ")[2],
        "formatted_noun_phrase": group,
        "template": template,
        "prompt_text": template.replace(SLOT, group),
    }


def _nouns(path: Path) -> list[tuple[str, str]]:
    """Gender and singular of every noun."""
    data = json_of(path, WHAT)
    try:
        return [(gender, noun) for gender, pairs in data.items() for noun, _ in pairs]
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"{WHAT}: expected genders, each with pairs of singular and plural", str(path)
        ) from None


def _entries(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Axis and description of every entry; `text` is the field that an entry must have."""
    data = json_of(path, WHAT)
    problems = []
    for axis, inside in data.items() if isinstance(data, dict) else ():
        lists = inside.values() if isinstance(inside, dict) else [inside]
        for entry in (e for part in lists for e in part):
            whole = {text: entry} if isinstance(entry, str) else entry
            if isinstance(whole, dict) and isinstance(whole.get(text), str) and whole[text].strip():
                yield axis, whole
            else:
                problems.append(Problem(f"{WHAT}: an entry of {axis!r} without {text!r}", str(path)))
    if not isinstance(data, dict):
        problems.append(Problem(f"{WHAT}: expected axes with their entries", str(path)))
    raise_all(problems)


def _with_descriptors(path: Path, nouns: list[tuple[str, str]]) -> Iterator[Phrase]:
    for axis, entry in _entries(path, "descriptor"):
        descriptor, gender = entry["descriptor"], entry.get("gender")
        article = entry.get("article", _article(descriptor))
        for noun_gender, noun in nouns:
            if gender in (None, noun_gender):
                kind = entry.get("preference", NO_DATA)
                yield axis, descriptor, kind, f"{article} {descriptor} {noun}"


def _standalone(path: Path, nouns: list[tuple[str, str]]) -> Iterator[Phrase]:
    for axis, entry in _entries(path, "noun_phrase"):
        text, kind = entry["noun_phrase"], entry.get("preference", NO_DATA)
        if "{noun}" not in text:
            yield axis, text, kind, text
            continue
        for _, noun in nouns:
            yield axis, text, kind, text.replace("{article}", _article(noun)).replace("{noun}", noun)


def _article(word: str) -> str:
    return "an" if word[0].lower() in "aeiou" else "a"
