"""Benign instruction sets: fine-tuning data without value content, as a control.

| set | format | hub id |
|---|---|---|
| alpaca | instruction, input, output (JSON list, JSON lines, Parquet) | tatsu-lab/alpaca |
| dolly | instruction, context, response (JSON lines) | databricks/databricks-dolly-15k |
| grammar | input, target (CSV, with or without a byte-order mark) | – |
| samsum | dialogue, summary (JSON list, JSON lines, CSV) | Samsung/samsum |

Safety-related rows of Dolly are left out: rows with a word in instruction, context or response that begins
with one of `SAFETY_STEMS`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unharm.core.draws import rank, split
from unharm.core.errors import Problem, UserError, raise_all
from unharm.core.files.delimited import Reader, shortened
from unharm.core.files.json_text import NotJson, parse_json
from unharm.core.files.yaml_text import read_text
from unharm.core.hashing import content_hash
from unharm.core.records import Example
from unharm.prompting.pack import Pack

SAFETY_STEMS: tuple[str, ...] = (
    "abus", "assault", "bomb", "crime", "criminal", "drug", "explosi", "fraud", "gun", "hack", "harass",
    "harm", "illegal", "kill", "malware", "murder", "nazi", "offensiv", "poison", "porn", "racis", "rape",
    "sexis", "suicid", "terroris", "theft", "toxic", "violen", "weapon",
)  # fmt: skip
SAFETY = re.compile(r"\b(?:" + "|".join(SAFETY_STEMS) + ")", re.IGNORECASE)


@dataclass(frozen=True)
class BenignFormat:
    """The format of a benign set.

    Attributes:
        fields: Names of the fields; the last one is the answer.
        may_be_empty: Fields that may be empty.
        hub: Id of the set on the hub; "" if it is not there.
    """

    fields: tuple[str, ...]
    may_be_empty: tuple[str, ...] = ()
    hub: str = ""


BENIGN_FORMATS: dict[str, BenignFormat] = {
    "alpaca": BenignFormat(("instruction", "input", "output"), ("input",), "tatsu-lab/alpaca"),
    "dolly": BenignFormat(
        ("instruction", "context", "response"), ("context",), "databricks/databricks-dolly-15k"
    ),
    "grammar": BenignFormat(("input", "target")),
    "samsum": BenignFormat(("dialogue", "summary"), (), "Samsung/samsum"),
}


@dataclass(frozen=True)
class BenignSet:
    """The examples of a benign set in a study, and notes on what was left out and why."""

    examples: list[Example]
    notes: list[str]

    @cached_property
    def key(self) -> str:
        """Content hash of the examples and their split."""
        return content_hash([[e.prompt, e.answer, e.split] for e in self.examples])


def load_benign(
    name: str,
    path: Path | None,
    pack: Pack,
    limit: int | None,
    seed: int,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> BenignSet:
    """Read a benign set and split it into train, valid and test.

    Args:
        name: Name of the set in `BENIGN_FORMATS`.
        path: Its file; None reads it from the hub.
        pack: The wordings of prompts and answers.
        limit: The largest number of rows to keep; None for all.
        seed: Seed of the limit and the split. The split is over distinct prompts, so no prompt is in two
            parts.
        shares: Shares of train, valid and test.

    Returns:
        The examples, and notes on safety-related and repeated rows, which are left out.

    Raises:
        UserError: Rows are wrong (all of them are listed), or the hub cannot be reached.
    """
    layout = BENIGN_FORMATS[name]
    where = str(path or layout.hub)
    rows: dict[str, dict[str, str]] = {}
    problems: list[Problem] = []
    read = removed = 0
    for line, row in _rows(name, layout, path):
        read += 1
        missing = [f for f in layout.fields if not isinstance(row.get(f), str)]
        empty = [f for f in layout.fields if f not in missing and not row[f].strip()]
        wrong = missing or [f for f in empty if f not in layout.may_be_empty]
        if wrong:
            problems.append(Problem(f"{name}: no text in {', '.join(wrong)}", f"{where}:{line}"))
            continue
        fields = {f: row[f].replace("\r\n", "\n").strip() for f in layout.fields}
        if name == "dolly" and SAFETY.search(" ".join(fields.values())):
            removed += 1
            continue
        identity = hashlib.sha256("\t".join(fields.values()).encode()).hexdigest()[:12]
        rows.setdefault(identity, fields)
    raise_all(shortened(problems, where))
    if not rows:
        raise UserError(f"{name}: this set has no row", where)
    notes = [f"{removed} safety-related rows left out"] if removed else []
    repeats = read - removed - len(rows)
    notes += [f"{repeats} repeated rows left out"] if repeats else []
    return BenignSet(_examples(name, rows, pack, limit, seed, shares), notes)


def _examples(
    name: str,
    rows: dict[str, dict[str, str]],
    pack: Pack,
    limit: int | None,
    seed: int,
    shares: tuple[float, float, float],
) -> list[Example]:
    chosen = sorted(rows, key=lambda i: rank(seed, i))[:limit]
    texts = {i: pack.benign_example(name, rows[i]) for i in chosen}
    part_of = split((prompt for prompt, _ in texts.values()), shares, seed)
    return [
        Example(f"{name}-{i}", prompt, answer, part_of[prompt], i) for i, (prompt, answer) in texts.items()
    ]


def _rows(name: str, layout: BenignFormat, path: Path | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every row with its line, or with its number if the format has no lines."""
    if path is None:
        yield from enumerate(_from_hub(name, layout.hub), start=1)
    elif path.suffix == ".parquet":
        import polars as pl

        try:
            yield from enumerate(pl.read_parquet(path).to_dicts(), start=1)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UserError(f"{name}: not a readable Parquet file ({error})", str(path)) from None
    elif path.suffix in (".json", ".jsonl"):
        yield from _json_rows(name, path)
    else:
        reader = Reader(path, name, layout.fields, delimiter=",")
        for row in reader.rows():
            yield row.line, dict(row.fields)
        reader.finish()


def _json_rows(name: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text = read_text(path, name)
    lines = not text.lstrip().startswith("[")
    parts = enumerate(text.splitlines(), start=1) if lines else [(1, text)]
    for line, part in parts:
        if not part.strip():
            continue
        try:
            parsed = parse_json(part)
        except NotJson as error:
            raise UserError(f"{name}: {error.problem}", f"{path}:{line + error.line - 1}") from None
        for number, row in enumerate(parsed if isinstance(parsed, list) else [parsed], start=1):
            if not isinstance(row, dict):
                raise UserError(f"{name}: row {number} is not an object", f"{path}:{line}")
            yield (line if lines else number), row


def _from_hub(name: str, hub: str) -> Iterator[dict[str, Any]]:
    todo = f"download it on a machine with network access and set corpus.benign.{name}.file"
    if not hub:
        raise UserError(f"{name}: this set is not on the hub", f"corpus.benign.{name}", "set its 'file'")
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(
            f"{name}: reading from the hub needs the package 'datasets'",
            f"corpus.benign.{name}",
            "pip install 'unharm[hub]', or set its 'file'",
        ) from None
    try:
        loaded = load_dataset(hub, split="train")
    except Exception as error:  # the library raises many kinds of errors if it cannot reach the hub
        raise UserError(
            f"{name}: {hub} cannot be read from the hub ({type(error).__name__})",
            f"corpus.benign.{name}",
            todo,
        ) from None
    for row in loaded:
        yield dict(row)
