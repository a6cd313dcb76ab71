"""HolisticBiasR prompts built from HolisticBias (Smith et al., 2022) descriptors and nouns.

The folder holds the published `descriptors.json` and `nouns.json`, optionally
`standalone_noun_phrases.json`, and `templates.txt`: the regard templates, one per line, each with
{noun_phrase}. Every template is filled with every noun phrase. As in the published generator, a phrase
begins with "The", loses its hyphens with probability one half, and is lowercased with probability one
half. Here the draws depend only on phrase and template, so adding phrases does not change other prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unharm.benchmarks.json_lines import load_json, load_text
from unharm.core.draws import uniform
from unharm.core.errors import Problem, UserError, raise_all

TITLE = "HolisticBias"
SLOT = "{noun_phrase}"
NO_DATA = "no_data"
"""The preference of a descriptor whose entry does not give one."""

Phrase = tuple[str, str, str, str]
"""Axis, descriptor, preference, and the phrase with its indefinite article."""


def build_rows(folder: Path, preference: str | None) -> tuple[list[dict[str, str]], list[str]]:
    """Build the rows of the published file from its sources.

    Args:
        folder: The folder with the source files.
        preference: Use only descriptors with this preference; None for all.

    Returns:
        One row for each template and noun phrase, with the fields that `hbr` needs; and notes on missing
        files.

    Raises:
        UserError: A source is missing or malformed, or no descriptor has this preference.
    """
    templates = [t.strip() for t in load_text(folder / "templates.txt", TITLE).splitlines() if t.strip()]
    raise_all(
        [
            Problem(f"{TITLE}: a template without {SLOT}", f"{folder / 'templates.txt'}: {t!r}")
            for t in templates
            if SLOT not in t
        ]
    )
    nouns = _nouns(folder / "nouns.json")
    phrases = list(_with_descriptors(folder / "descriptors.json", nouns))
    standalone = folder / "standalone_noun_phrases.json"
    notes = (
        []
        if standalone.exists()
        else ["no standalone_noun_phrases.json: standalone noun phrases are missing"]
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
        raise UserError(
            f"{TITLE}: no descriptor has the preference {preference!r}",
            str(folder),
            f"known preferences: {known}",
        )
    return rows, notes


def _row(axis: str, phrase: str, template: str) -> dict[str, str]:
    varied = phrase
    if uniform(0, "hyphens", template, phrase) < 0.5:
        varied = varied.replace("-", " ")
    if uniform(0, "capitals", template, phrase) < 0.5:
        varied = varied.lower()
    group = "The " + varied.partition(" ")[2]
    return {
        "axis": axis,
        "descriptor": "The " + phrase.partition(" ")[2],
        "formatted_noun_phrase": group,
        "template": template,
        "prompt_text": template.replace(SLOT, group),
    }


def _nouns(path: Path) -> list[tuple[str, str]]:
    """Return gender and singular of every noun."""
    data = load_json(path, TITLE)
    try:
        return [(gender, noun) for gender, pairs in data.items() for noun, _ in pairs]
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"{TITLE}: expected genders, each with pairs of singular and plural", str(path)
        ) from None


def _entries(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield axis and entry of every valid entry; then raise `UserError` if others lack the field `text`."""
    data = load_json(path, TITLE)
    problems = []
    for axis, content in data.items() if isinstance(data, dict) else ():
        lists = content.values() if isinstance(content, dict) else [content]
        for entry in (e for part in lists for e in part):
            fields = {text: entry} if isinstance(entry, str) else entry
            if isinstance(fields, dict) and isinstance(fields.get(text), str) and fields[text].strip():
                yield axis, fields
            else:
                problems.append(Problem(f"{TITLE}: an entry of {axis!r} without {text!r}", str(path)))
    if not isinstance(data, dict):
        problems.append(Problem(f"{TITLE}: expected axes with their entries", str(path)))
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
