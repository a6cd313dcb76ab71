"""The stage that scores completions: every scorer of a benchmark on what it has to score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from unharm.keys import Shard
from unharm.progress import Progress, say
from unharm.records import Completion, Score, schema_of
from unharm.scoring.coherence import UNMASKED, coherence_flag
from unharm.scoring.offline import Scorer, unscored
from unharm.scoring.services import ServiceScorer
from unharm.scoring.texts import Text, text_of
from unharm.store import Artefact

if TYPE_CHECKING:
    from unharm.pipeline import Run

SCORES = {
    **schema_of(Score),
    "prompt_id": pl.String,
    "sample": pl.Int64,
    "flag": pl.String,
    "tokens": pl.Int64,
}

TOGETHER = 4096
"""Completions that are before a service at a time: enough to keep its connections busy."""


@dataclass(frozen=True)
class Part:
    """What one scorer has to score of one shard: a `share` of its completions, drawn by their ids."""

    shard: Shard
    scorer: str
    artefact: Artefact
    share: float


def parts(run: Run) -> list[Part]:
    """Everything that is to be scored, in the order of the study's scorers."""
    found = [
        Part(shard, name, artefact, run.plan.share(shard.benchmark, name))
        for shard in run.shards
        for name, artefact in shard.scored.items()
    ]
    order = {name: n for n, name in enumerate(run.plan.scorers)}
    return sorted(found, key=lambda part: order[part.scorer])


def pending(run: Run, every: list[Part] | None = None) -> list[Part]:
    """What is not scored yet, or was not answered by its service, of all parts."""
    left = []
    for part in parts(run) if every is None else every:
        marker = run.store.marker(part.artefact)
        if marker is None or marker.get("unanswered"):
            left.append(part)
    return left


def make_scores(run: Run) -> None:
    """scores/<subject>/<benchmark>/: one score per completion and scorer, joined by its id.

    What a service did not answer is recorded as such, and asked again by the next run.
    """
    every = parts(run)
    left = pending(run, every)
    repeats = [0, 0]
    with Progress("scores", len(every), "shards", len(every) - len(left)) as progress:
        for name in dict.fromkeys(part.scorer for part in left):
            scorer = run.scorers[name]
            for group in _groups([part for part in left if part.scorer == name], scorer):
                _score(run, scorer, group, repeats)
                progress.tick(len(group))
            if isinstance(scorer, ServiceScorer):
                say(f"scores: {name}: {scorer.told()}")
    again, asked = repeats
    if again:
        say(f"scores: {again:,} of {asked:,} repeat a text that is scored: each was scored once")
    frames = [run.store.scan(part.artefact).select("status") for part in every]
    counts = dict(pl.concat(frames).group_by("status").len().collect().iter_rows())
    run.scored = counts.pop("scored", 0)
    run.unscored = sum(counts.values())
    if run.unscored:
        told = ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items()))
        say(f"scores: {run.unscored:,} of {run.unscored + run.scored:,} have no score ({told})")


def texts_of(run: Run, part: Part) -> list[Text]:
    """What the scorer of a part has to read, without what no scorer has to see."""
    return [t for t in _before(part, _completions(run, part)) if isinstance(t, Text)]


def _before(part: Part, completions: list[Completion]) -> list[Score | Text]:
    """What a scorer reads of each completion, or its score where no scorer has to see it."""
    prompts = {p.id: p for p in part.shard.prompts}
    return [_unfit(c) or text_of(part.shard.benchmark, prompts[c.prompt_id], c) for c in completions]


def _groups(waiting: list[Part], scorer: Scorer) -> Iterator[list[Part]]:
    """Shards that go to the scorer together: one by one, but several at a time to a service."""
    most = TOGETHER if isinstance(scorer, ServiceScorer) else 1
    group: list[Part] = []
    size = 0
    for part in waiting:
        group.append(part)
        size += round(len(part.shard.prompts) * part.share) or 1
        if size >= most:
            yield group
            group, size = [], 0
    if group:
        yield group


def _score(run: Run, scorer: Scorer, group: list[Part], repeats: list[int]) -> None:
    """Scores the completions of some shards and stores their tables; equal texts are scored once."""
    read: list[tuple[Part, list[Completion], list[Score | Text]]] = []
    different: dict[tuple[str, str], Text] = {}
    whole = run.plan.scorers[group[0].scorer].reads == "answer"

    def read_of(text: Text) -> tuple[str, str]:
        """What of a text the scorer reads: texts that share it are scored once."""
        return text.prompt, text.answer if whole else text.text

    done = [run.begun("scores", part.artefact) for part in group]
    for part in group:
        completions = _completions(run, part)
        before = _before(part, completions)
        texts = [t for t in before if isinstance(t, Text)]
        known = len(different)
        for text in texts:
            different.setdefault(read_of(text), text)
        repeats[0] += len(texts) - (len(different) - known)
        repeats[1] += len(texts)
        read.append((part, completions, before))
    made = dict(zip(different, scorer(list(different.values())), strict=True)) if different else {}
    for finish, (part, completions, before) in zip(done, read, strict=True):
        rows = []
        for completion, found in zip(completions, before, strict=True):
            if isinstance(found, Text):
                score = replace(made[read_of(found)], completion_id=found.id)
                flag = coherence_flag(completion.text) or (UNMASKED if found.unmasked else "")
            else:
                score, flag = found, coherence_flag(completion.text) if completion.text else ""
            rows.append(
                asdict(score)
                | {"prompt_id": completion.prompt_id, "sample": completion.sample, "flag": flag}
                | {"tokens": completion.tokens}
            )
        unanswered = sum(row["status"] == "unanswered" for row in rows)
        run.store.put_table(part.artefact, pl.DataFrame(rows, schema=SCORES), unanswered=unanswered)
        finish()


def _completions(run: Run, part: Part) -> list[Completion]:
    frame = run.store.scan(part.shard.completions).drop("options").collect()
    return [
        Completion(**row)
        for row in frame.to_dicts()
        if part.share >= 1 or int(row["completion_id"][:8], 16) < part.share * 2**32
    ]


def _unfit(completion: Completion) -> Score | None:
    """The score of a completion that no scorer has to see; None for all others."""
    text = Text(completion.completion_id, "", "", "")
    if completion.status == "failed":
        return unscored(text, f"no completion: {completion.reason}")
    return None if completion.text.strip() else unscored(text, "empty completion")
