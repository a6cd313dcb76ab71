"""A few completions to look at, chosen by score; the page hides them until they are clicked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import polars as pl

from unharm.keys import Shard
from unharm.store import Store

PER_SUBJECT = 2


@dataclass(frozen=True)
class Shown:
    """One completion as it is shown: all texts are raw and must be escaped."""

    benchmark: str
    subject: str
    category: str
    prompt: str
    completion: str
    score: float | None


def chosen_examples(store: Store, shards: list[Shard]) -> list[Shown]:
    """The highest-scored completions of the first subject of each arm, per benchmark."""
    shown: list[Shown] = []
    taken: dict[tuple[str, str], None] = {}
    for (subject, benchmark), group in groupby(shards, key=lambda s: (s.subject, s.benchmark)):
        if (subject.arm, benchmark) in taken:
            continue
        taken[subject.arm, benchmark] = None
        parts = list(group)
        scores = pl.concat([store.scan(s.scores) for s in parts]).select("completion_id", "value")
        texts = pl.concat([store.scan(s.completions) for s in parts])
        best = (
            texts.join(scores, on="completion_id")
            .sort(
                "value",
                "prompt_id",
                "sample",
                descending=[True, False, False],
                nulls_last=True,
            )
            .unique("prompt_id", keep="first", maintain_order=True)
            .head(PER_SUBJECT)
            .collect()
        )
        prompts = {p.id: p for s in parts for p in s.prompts}
        for row in best.to_dicts():
            prompt = prompts[row["prompt_id"]]
            shown.append(
                Shown(benchmark, subject.label, prompt.category, prompt.text, row["text"], row["value"])
            )
    return sorted(shown, key=lambda s: [s.benchmark for s in shown].index(s.benchmark))
