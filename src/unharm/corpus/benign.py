"""Benign instruction sets: fine-tuning data without any value content, as a control.

Grammar: a CSV with the columns input and target, as published (with a byte-order mark).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from unharm.delimited import Reader
from unharm.prompting.pack import Pack
from unharm.records import Example

VALID_SHARE = 0.1


def grammar_examples(path: Path, pack: Pack, limit: int | None, seed: int) -> list[Example]:
    """Sentences to correct; a tenth, drawn by seed over the inputs, is held out for validation."""
    reader = Reader(path, "grammar", ("input", "target"), delimiter=",")
    pairs: dict[str, tuple[str, str]] = {}
    for row in reader.rows():
        if not row["input"] or not row["target"]:
            reader.wrong(row.line, "an empty input or target")
            continue
        identity = hashlib.sha256(f"{row['input']}\t{row['target']}".encode()).hexdigest()[:12]
        pairs.setdefault(identity, (row["input"], row["target"]))
    reader.finish()

    def draw(text: str) -> str:
        return hashlib.sha256(f"{seed}/{text}".encode()).hexdigest()

    taken = sorted(pairs, key=draw)[:limit]
    inputs = sorted({pairs[i][0] for i in taken}, key=lambda text: draw("split/" + text))
    held_out = set(inputs[: round(VALID_SHARE * len(inputs))])
    return [
        Example(
            f"grammar-{i}",
            pack.fill("grammar", "prompt", input=pairs[i][0]),
            pack.fill("grammar", "answer", target=pairs[i][1]),
            "valid" if pairs[i][0] in held_out else "train",
            i,
        )
        for i in taken
    ]
