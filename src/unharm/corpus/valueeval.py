"""Touché23-ValueEval arguments in the ten-value form (Mirzakhmedova et al., 2024; CC BY 4.0).

Format: tab-separated, columns Conclusion, Stance, Premise and one 0/1 column per value.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from unharm.delimited import Reader
from unharm.records import Argument, Split
from unharm.values import VALUES

STANCES = ("in favor of", "against")
NEEDS = ("Conclusion", "Stance", "Premise", *(v.capitalize() for v in VALUES))


def read_arguments(path: Path) -> list[Argument]:
    """All arguments in the order of the file. Raises `UserError` with every wrong row.

    An argument's id is a hash of its texts, so that it survives a reordered file; a repeated one
    keeps its row and gets `-2`, `-3`, … behind the same hash.
    """
    reader = Reader(path, "arguments", NEEDS)
    arguments: list[Argument] = []
    repeats: Counter[str] = Counter()
    for row in reader.rows():
        labels = {v: row[v.capitalize()] for v in VALUES}
        wrong = [v for v, label in labels.items() if label not in ("0", "1")]
        stance = row["Stance"].lower().replace("favour", "favor")
        if wrong:
            reader.wrong(row.line, f"{wrong[0]} is {labels[wrong[0]]!r}, expected 0 or 1")
        elif stance not in STANCES:
            reader.wrong(row.line, f"the stance is {row['Stance']!r}", f"expected one of: {STANCES}")
        elif not row["Conclusion"] or not row["Premise"]:
            reader.wrong(row.line, "an empty conclusion or premise")
        elif "1" not in labels.values():
            reader.wrong(row.line, "an argument without any value", "label it or remove the row")
        else:
            text = "\t".join((row["Conclusion"], stance, row["Premise"]))
            identity = hashlib.sha256(text.encode()).hexdigest()[:12]
            repeats[identity] += 1
            arguments.append(
                Argument(
                    f"{identity}-{repeats[identity]}" if repeats[identity] > 1 else identity,
                    row["Conclusion"],
                    "in favor of" if stance == STANCES[0] else "against",
                    row["Premise"],
                    tuple(v for v in VALUES if labels[v] == "1"),
                )
            )
    reader.finish()
    return arguments


def draw(arguments: list[Argument], limit: int | None, seed: int) -> list[Argument]:
    """At most `limit` arguments, drawn by a hash of seed and id; the order is kept."""
    if limit is None or limit >= len(arguments):
        return arguments
    taken = {a.id for a in sorted(arguments, key=lambda a: _draw(seed, a.id))[:limit]}
    return [a for a in arguments if a.id in taken]


def split_of(arguments: list[Argument], shares: tuple[float, float, float], seed: int) -> dict[str, Split]:
    """The part that each argument belongs to, the same for both stages and all profiles.

    Drawn over the texts of arguments, so that nothing trained in one stage is validated in the
    other, and repeats of an argument stay together.
    """
    texts = {_text(a.id) for a in arguments}
    order = sorted(texts, key=lambda i: _draw(seed, "split/" + i))
    first = round(shares[0] * len(order))
    second = first + round(shares[1] * len(order))
    part_of: dict[str, Split] = {}
    for place, text in enumerate(order):
        part_of[text] = "train" if place < first else "valid" if place < second else "test"
    return {a.id: part_of[_text(a.id)] for a in arguments}


def _text(identity: str) -> str:
    """The id of an argument's text, the same for its repeats."""
    return identity.partition("-")[0]


def _draw(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()
