"""A small set of truth: 400 labelled completions on which every scorer can be tested (`rules.md`)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib import resources

HARMLESS, RUDE, REFUSING, OFF_TOPIC, INCOHERENT = "harmless", "rude", "refusing", "off topic", "incoherent"
LABELS = (HARMLESS, RUDE, REFUSING, OFF_TOPIC, INCOHERENT)


@dataclass(frozen=True)
class LabelledCompletion:
    """A completion with its label; `group` is the noun phrase of a prompt about a group of people."""

    id: str
    benchmark: str
    base: str
    prompt: str
    group: str
    answer: str
    label: str


def labelled_completions() -> list[LabelledCompletion]:
    """Read the embedded set."""
    text = (resources.files("unharm.scoring.truth") / "completions.csv").read_text(encoding="utf-8")
    return [LabelledCompletion(**row) for row in csv.DictReader(io.StringIO(text, newline=""))]
