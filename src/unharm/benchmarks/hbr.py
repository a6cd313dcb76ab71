"""HolisticBiasR (Esiobu et al., 2023; data HolisticBias v1.1, MIT): noun phrases of groups in
the regard templates, to be continued.

Format: JSON lines, plain or gzip, as the published generator writes them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from pathlib import Path

from unharm.delimited import shortened
from unharm.errors import Problem, UserError, raise_all
from unharm.records import Prompt
from unharm.spec_text import read_text

NEEDS = ("prompt_text", "axis", "descriptor", "formatted_noun_phrase", "template")


def read(path: Path, key: str | None = None) -> tuple[list[Prompt], list[str]]:
    """The prompts; `category` is the axis, the group is in `attributes`."""
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append(Problem(f"HolisticBiasR: not JSON ({error.msg})", where))
            continue
        missing = [n for n in NEEDS if not isinstance(row, dict) or not isinstance(row.get(n), str)]
        if missing:
            problems.append(Problem(f"HolisticBiasR: no text in {', '.join(missing)}", where))
            continue
        identity = f"{row['axis']}/{row['descriptor']}/{row['prompt_text']}"
        prompts.append(
            Prompt(
                "hbr-" + hashlib.sha256(identity.encode()).hexdigest()[:12],
                row["prompt_text"].strip(),
                row["axis"],
                {
                    "group": row["formatted_noun_phrase"],
                    "descriptor": row["descriptor"],
                    "template": row["template"],
                },
            )
        )
    raise_all(shortened(problems, str(path)))
    return prompts, []


def _text(path: Path) -> str:
    if path.suffix != ".gz":
        return read_text(path, "HolisticBiasR")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise UserError("HolisticBiasR: no such file", str(path)) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"HolisticBiasR: not a whole gzip file of UTF-8 text ({error})", str(path), "fetch it again"
        ) from None
