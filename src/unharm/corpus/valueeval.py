"""Touché23-ValueEval arguments (Mirzakhmedova et al., 2024; CC BY 4.0), as ten values.

Two formats: one tab-separated file with Conclusion, Stance, Premise and a 0/1 column per value; or
the folder of the original release, with arguments*.tsv and labels*.tsv joined by Argument ID, whose
twenty values are mapped to ten (touche20.yaml: one is set where any of its parts is).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Literal

import yaml

from unharm.core.draws import rank, split
from unharm.core.errors import Problem, raise_all
from unharm.core.files.delimited import Reader, Row, shortened
from unharm.core.records import Argument, Split
from unharm.core.values import VALUES

STANCES = ("in favor of", "against")
TEXTS = ("Conclusion", "Stance", "Premise")
LABELS = tuple(v.capitalize() for v in VALUES)
By = Literal["argument", "conclusion"]


def read_arguments(path: Path) -> list[Argument]:
    """All arguments in the order of the file. Raises `UserError` with every wrong row.

    An argument's id is a hash of its texts, so that it survives a reordered file; a repeated one
    keeps its row and gets `-2`, `-3`, … behind the same hash.
    """
    return _original_release(path) if path.is_dir() else _ten_values(path)


def _ten_values(path: Path) -> list[Argument]:
    reader = Reader(path, "arguments", (*TEXTS, *LABELS))
    made = _Maker()
    for row in reader.rows():
        values = _labelled(reader, row, LABELS)
        if values is not None:
            made.add(reader, row, tuple(v for v in VALUES if v.capitalize() in values))
    reader.finish()
    return made.arguments


def _original_release(folder: Path) -> list[Argument]:
    files = {kind: sorted(folder.glob(f"{kind}*.tsv")) for kind in ("arguments", "labels")}
    empty = [kind for kind, found in files.items() if not found]
    raise_all([Problem(f"arguments: no {kind}*.tsv in this folder", str(folder)) for kind in empty])
    embedded = Path(str(resources.files("unharm"))) / "corpus" / "touche20.yaml"
    ten_of: dict[str, str] = yaml.safe_load(embedded.read_text(encoding="utf-8"))
    labels: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    for file in files["labels"]:
        reader = Reader(file, "labels", ("Argument ID", *ten_of), delimiter="\t")
        for row in reader.rows():
            set_ = _labelled(reader, row, tuple(ten_of))
            if row["Argument ID"] in labels:
                reader.wrong(row.line, f"the argument {row['Argument ID']!r} is labelled twice")
            elif set_ is not None:
                ten = {ten_of[name] for name in set_}
                labels[row["Argument ID"]] = tuple(v for v in VALUES if v in ten)
        problems += reader.problems
    made, seen = _Maker(), set()
    for file in files["arguments"]:
        reader = Reader(file, "arguments", ("Argument ID", *TEXTS), delimiter="\t")
        for row in reader.rows():
            identity = row["Argument ID"]
            if identity in seen:
                reader.wrong(row.line, f"the argument {identity!r} is given twice")
            elif identity not in labels:
                reader.wrong(row.line, f"the argument {identity!r} has no row in labels*.tsv")
            else:
                made.add(reader, row, labels[identity])
            seen.add(identity)
        problems += reader.problems
    raise_all(shortened(problems, str(folder)))
    return made.arguments


def _labelled(reader: Reader, row: Row, columns: tuple[str, ...]) -> set[str] | None:
    """The columns that are 1, or None (and a problem) where one is neither 0 nor 1."""
    wrong = [c for c in columns if row[c] not in ("0", "1")]
    if wrong:
        reader.wrong(row.line, f"{wrong[0].lower()} is {row[wrong[0]]!r}, expected 0 or 1")
        return None
    return {c for c in columns if row[c] == "1"}


class _Maker:
    """Makes arguments from rows and numbers the repeats of a text."""

    def __init__(self) -> None:
        self.arguments: list[Argument] = []
        self._repeats: Counter[str] = Counter()

    def add(self, reader: Reader, row: Row, values: tuple[str, ...]) -> None:
        stance = row["Stance"].lower().replace("favour", "favor")
        if stance not in STANCES:
            reader.wrong(row.line, f"the stance is {row['Stance']!r}", f"expected one of: {STANCES}")
            return
        if not row["Conclusion"] or not row["Premise"]:
            reader.wrong(row.line, "an empty conclusion or premise")
            return
        if not values:
            reader.wrong(row.line, "an argument without any value", "label it or remove the row")
            return
        text = "\t".join((row["Conclusion"], stance, row["Premise"]))
        identity = hashlib.sha256(text.encode()).hexdigest()[:12]
        self._repeats[identity] += 1
        repeat = self._repeats[identity]
        self.arguments.append(
            Argument(
                f"{identity}-{repeat}" if repeat > 1 else identity,
                row["Conclusion"],
                "in favor of" if stance == STANCES[0] else "against",
                row["Premise"],
                values,
            )
        )


def draw(arguments: list[Argument], limit: int | None, seed: int) -> list[Argument]:
    """At most `limit` arguments, drawn by a hash of seed and id; the order is kept."""
    if limit is None or limit >= len(arguments):
        return arguments
    taken = {a.id for a in sorted(arguments, key=lambda a: rank(seed, a.id))[:limit]}
    return [a for a in arguments if a.id in taken]


def split_of(
    arguments: list[Argument],
    shares: tuple[float, float, float],
    seed: int,
    by: By = "argument",
) -> dict[str, Split]:
    """The part that each argument belongs to, the same for both stages and all profiles.

    Drawn over the texts of arguments, so that nothing trained in one stage is validated in the
    other and repeats of an argument stay together; or over conclusions, so that all arguments on
    one conclusion stay together (the shares then hold for conclusions).
    """
    unit_of = {a.id: _text(a.id) if by == "argument" else a.conclusion.lower() for a in arguments}
    part_of = split(unit_of.values(), shares, seed)
    return {identity: part_of[unit] for identity, unit in unit_of.items()}


def _text(identity: str) -> str:
    """The id of an argument's text, the same for its repeats."""
    return identity.partition("-")[0]
