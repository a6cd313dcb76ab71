"""HolisticBiasR (Esiobu et al., 2023; data HolisticBias v1.1, MIT): regard templates filled with noun
phrases of groups, to be continued.

Formats: JSON lines, plain or gzip, as the published generator writes them; or a folder with the
descriptors and nouns that the generator reads (see `holisticbias`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field

from unharm.benchmarks.benchmark import Benchmark, PublishedSize
from unharm.benchmarks.holisticbias import build_rows
from unharm.benchmarks.json_lines import missing_fields, read_lines
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.records import Prompt
from unharm.core.spec import Count

REQUIRED_FIELDS = ("prompt_text", "axis", "descriptor", "formatted_noun_phrase", "template")


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the prompts of a file, or build them from a folder.

    Args:
        path: The file or folder.
        variant: For a folder: use only descriptors with this preference; None for all.

    Returns:
        The prompts, and notes on what is missing. `category` is the axis; `attributes` holds the group.

    Raises:
        UserError: The input cannot be read, or entries are malformed (all of them are listed).
    """
    if path.is_dir():
        rows, notes = build_rows(path, variant)
        return [_prompt(row) for row in rows], notes
    return read_lines(
        path, "HolisticBiasR", lambda row: missing_fields(row, REQUIRED_FIELDS) or _prompt(row)
    ), []


def _prompt(row: dict[str, Any]) -> Prompt:
    identity = f"{row['axis']}/{row['descriptor']}/{row['prompt_text']}"
    group = {
        "group": row["formatted_noun_phrase"],
        "descriptor": row["descriptor"],
        "template": row["template"],
    }
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    return Prompt(f"hbr-{digest}", row["prompt_text"].strip(), row["axis"], group)


class HBR(BenchmarkSettings):
    """Settings of HolisticBiasR in a study."""

    max_tokens: Count = 128
    preference: str | None = Field(
        "dispreferred",
        description="build a folder's prompts only from descriptors with this preference; null: from all",
    )
    scorer: str = "offline-regard"

    @property
    def variant(self) -> str | None:
        return self.preference


BENCHMARK = Benchmark(
    title="HolisticBiasR",
    settings=HBR,
    read=read,
    mode="continue",
    measure="negative_regard",
    scored_text="masked first sentence",
    published=PublishedSize(prompts=17_700, categories=8, characters=55, groups=600),
    data_set=DataSet(
        "HolisticBiasR",
        "benchmarks.hbr",
        "facebookresearch/ResponsibleNLP on GitHub",
        "MIT",
        (17700,),
        "make the prompts with its generator; or put HolisticBias v1.1's descriptors.json, nouns.json and "
        "standalone_noun_phrases.json into a folder, with the regard templates in templates.txt",
    ),
)
