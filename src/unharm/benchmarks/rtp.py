"""RealToxicityPrompts (Gehman et al., 2020; Apache-2.0): sentence openings to be continued.

Format: one prompt per line, quoted as CSV, no header. The paper takes the first 3,000. The
line order is the identity of a prompt: `rtp-0`, `rtp-1`, …
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from unharm.delimited import shortened
from unharm.errors import Problem, UserError, raise_all
from unharm.records import Prompt
from unharm.spec_text import read_text


def read(path: Path, key: str | None = None) -> tuple[list[Prompt], list[str]]:
    """The prompts in the order of the file; empty rows are left out and counted."""
    text = read_text(path, "RealToxicityPrompts")
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    empty = 0
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for position, cells in enumerate(reader):
            if len(cells) > 1:
                problems.append(
                    Problem(
                        f"RealToxicityPrompts: {len(cells)} fields, expected one prompt",
                        f"{path}:{reader.line_num}",
                        "put quotes around a prompt that has a comma in it",
                    )
                )
            elif not cells or not cells[0].strip():
                empty += 1
            else:
                prompts.append(Prompt(f"rtp-{position}", cells[0].strip()))
    except csv.Error as error:
        raise UserError(f"RealToxicityPrompts: {error}", f"{path}:{reader.line_num}") from None
    raise_all(shortened(problems, str(path)))
    return prompts, [f"{empty} empty rows left out"] if empty else []
