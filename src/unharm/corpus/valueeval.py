"""Touché23-ValueEval arguments (Mirzakhmedova et al., 2024; CC BY 4.0), labelled with ten values.

Two formats: one tab-separated file with Conclusion, Stance, Premise and a 0/1 column per value; or the
folder of the original release, where arguments*.tsv and labels*.tsv are joined by Argument ID. The twenty
values of the original release are mapped to ten by touche20.yaml: a value is set if any of its parts is.
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
    """Read all arguments, in file order.

    The id of an argument is a hash of its texts, so it does not depend on the order of the file. Repeats
    of an argument are kept and get the suffix `-2`, `-3`, … after the same hash.

    Raises:
        UserError: Files are missing, or rows are wrong (all of them are listed).
    """
    return _original_release(path) if path.is_dir() else _ten_values(path)


def _ten_values(path: Path) -> list[Argument]:
    reader = Reader(path, "arguments", (*TEXTS, *LABELS))
    builder = _ArgumentBuilder()
    for row in reader.rows():
        values = _labelled(reader, row, LABELS)
        if values is not None:
            builder.add(reader, row, tuple(v for v in VALUES if v.capitalize() in values))
    reader.finish()
    return builder.arguments


def _original_release(folder: Path) -> list[Argument]:
    files = {kind: sorted(folder.glob(f"{kind}*.tsv")) for kind in ("arguments", "labels")}
    missing = [kind for kind, matches in files.items() if not matches]
    raise_all([Problem(f"arguments: no {kind}*.tsv in this folder", str(folder)) for kind in missing])
    embedded = Path(str(resources.files("unharm"))) / "corpus" / "touche20.yaml"
    ten_of: dict[str, str] = yaml.safe_load(embedded.read_text(encoding="utf-8"))
    labels: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    for file in files["labels"]:
        reader = Reader(file, "labels", ("Argument ID", *ten_of), delimiter="\t")
        for row in reader.rows():
            labelled = _labelled(reader, row, tuple(ten_of))
            if row["Argument ID"] in labels:
                reader.wrong(row.line, f"the argument {row['Argument ID']!r} is labelled twice")
            elif labelled is not None:
                ten = {ten_of[name] for name in labelled}
                labels[row["Argument ID"]] = tuple(v for v in VALUES if v in ten)
        problems += reader.problems
    builder, seen = _ArgumentBuilder(), set()
    for file in files["arguments"]:
        reader = Reader(file, "arguments", ("Argument ID", *TEXTS), delimiter="\t")
        for row in reader.rows():
            identity = row["Argument ID"]
            if identity in seen:
                reader.wrong(row.line, f"the argument {identity!r} is given twice")
            elif identity not in labels:
                reader.wrong(row.line, f"the argument {identity!r} has no row in labels*.tsv")
            else:
                builder.add(reader, row, labels[identity])
            seen.add(identity)
        problems += reader.problems
    raise_all(shortened(problems, str(folder)))
    return builder.arguments


def _labelled(reader: Reader, row: Row, columns: tuple[str, ...]) -> set[str] | None:
    """Return the columns that are 1. Records a problem and returns None if one is neither 0 nor 1."""
    wrong = [c for c in columns if row[c] not in ("0", "1")]
    if wrong:
        reader.wrong(row.line, f"{wrong[0].lower()} is {row[wrong[0]]!r}, expected 0 or 1")
        return None
    return {c for c in columns if row[c] == "1"}


class _ArgumentBuilder:
    """Builds arguments from rows and numbers the repeats of a text."""

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
            reader.wrong(row.line, "an argument without any value", "label it, or remove the row")
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


def draw_arguments(arguments: list[Argument], limit: int | None, seed: int) -> list[Argument]:
    """Return at most `limit` arguments, drawn by a hash of seed and id, in their order."""
    if limit is None or limit >= len(arguments):
        return arguments
    drawn = {a.id for a in sorted(arguments, key=lambda a: rank(seed, a.id))[:limit]}
    return [a for a in arguments if a.id in drawn]


def split_arguments(
    arguments: list[Argument],
    shares: tuple[float, float, float],
    seed: int,
    by: By = "argument",
) -> dict[str, Split]:
    """Assign each argument to train, valid or test.

    Both stages and all profiles use this assignment, so nothing trained in one stage is validated in the
    other.

    Args:
        arguments: The arguments.
        shares: Shares of train, valid and test.
        seed: Seed of the draw.
        by: `argument` keeps repeats of an argument in one part. `conclusion` keeps all arguments on a
            conclusion in one part; the shares then apply to conclusions.

    Returns:
        The part of each argument, by argument id.
    """
    unit_of = {a.id: _text_id(a.id) if by == "argument" else a.conclusion.lower() for a in arguments}
    part_of = split(unit_of.values(), shares, seed)
    return {identity: part_of[unit] for identity, unit in unit_of.items()}


def _text_id(identity: str) -> str:
    """Return the id of the argument's text, which repeats share."""
    return identity.partition("-")[0]
