"""The stage that scores completions: every scorer of a benchmark on what it has to score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import polars as pl

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core import interrupt
from unharm.core.progress import say
from unharm.core.records import Completion, Score, schema_of
from unharm.executors.chunks import Chunk, Fault, Meter, cut
from unharm.runs.context import Run
from unharm.runs.faults import record_fault
from unharm.runs.keys import Shard
from unharm.runs.shards import all_shards, forget_shards, item_of, shard_of
from unharm.scoring.coherence import UNMASKED, coherence_flag
from unharm.scoring.offline import Scorer, unscored
from unharm.scoring.registry import has_model
from unharm.scoring.service_scorer import ServiceScorer
from unharm.scoring.settings import ServiceSpec
from unharm.scoring.texts import Text, text_of
from unharm.store.store import Artefact, NotDone

PAYS = 100_000
"""A further process on this machine pays from this many texts: it takes some seconds to start."""

SCORES = {
    **schema_of(Score),
    "prompt_id": pl.String,
    "sample": pl.Int64,
    "flag": pl.String,
    "tokens": pl.Int64,
}

OF_A_SCORE = [f.name for f in fields(Score)]
READ = [f.name for f in fields(Completion)][:-1]
"""The columns of completions that scores are made from: all but the probabilities of options."""

TOGETHER = 4096
"""Completions that are before a service at a time: enough to keep its connections busy."""
SHARDS = 32
"""Shards that one of several workers is given at a time, at most."""


@dataclass(frozen=True)
class Part:
    """What one scorer has to score of one shard: a `share` of its completions, drawn by their ids."""

    shard: Shard
    scorer: str
    artefact: Artefact
    share: float


def parts(run: Run) -> list[Part]:
    """Everything that is to be scored, in the order of the study's scorers."""
    found = [_part(run, name, shard) for shard in all_shards(run) for name in shard.scored]
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


def check_scorers(run: Run) -> None:
    """Look before any work whether the scorers that have something left to do can be used. Raises
    `UserError` with everything that is wrong."""
    names = list(run.plan.scorers)
    if run.store.artefacts("completions"):
        try:
            names = list(dict.fromkeys(part.scorer for part in pending(run)))
        except NotDone:
            forget_shards(run)  # adapters are not done yet
    run.scorers.check(names)


def make_scores(run: Run) -> None:
    """scores/<subject>/<benchmark>/: one score per completion and scorer, joined by its id.

    What a service did not answer is recorded as such, and asked again by the next run.
    """
    every = parts(run)
    left = pending(run, every)
    sums: Counter[str] = Counter()
    with run.progress("scores", len(every), "shards", len(every) - len(left)) as progress:
        for name in dict.fromkeys(part.scorer for part in left):
            mine = [part for part in left if part.scorer == name]
            with_model = has_model(run.study.scorers.get(name))
            texts = sum(_texts(run, part) for part in mine)
            size = run.workers.size("scores", texts, PAYS, with_model)
            chunks = _chunks(run, mine, size)
            sums += run.workers.carry_out(chunks, score_chunk, give_up_scores, progress, size, with_model)
            if isinstance(scorer := run.scorers[name] if chunks[0].here else None, ServiceScorer):
                say(f"scores: {name}: {scorer.told()}")
    if again := sums["repeats"]:
        say(f"scores: {again:,} of {sums['texts']:,} repeat a text that is scored: each was scored once")
    run.store.refresh("scores")
    frames = [run.store.scan(part.artefact).select("status") for part in every]
    counts = dict(pl.concat(frames).group_by("status").len().collect().iter_rows())
    run.scored = counts.pop("scored", 0)
    run.unscored = sum(counts.values())
    if run.unscored:
        told = ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items()))
        say(f"scores: {run.unscored:,} of {run.unscored + run.scored:,} have no score ({told})")


def _chunks(run: Run, mine: list[Part], workers: int) -> list[Chunk]:
    """The parts of one scorer that workers are given at a time. Services are asked from here, where the
    keys are, so that one rate holds for all."""
    name = mine[0].scorer
    items = [item_of(run, part.shard) for part in mine]
    return cut("scores", name, items, workers, SHARDS, here=_is_service(run, name))


def score_chunk(run: Run, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Scores the parts of a chunk that are not scored yet."""
    repeats = [0, 0]
    scorer = run.scorers[chunk.by]
    left = pending(run, [_part(run, chunk.by, shard_of(run, item)) for item in chunk.items])
    meter.skip(len(chunk.items) - len(left))
    for group in _groups(run, left, scorer):
        if interrupt.asked():
            break
        _score(run, scorer, group, repeats)
        meter.tick(len(group))
    return {"repeats": repeats[0], "texts": repeats[1]}


def give_up_scores(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Record the scores that a shard lacks as unanswered."""
    part = _part(run, chunk.by, shard_of(run, chunk.items[0]))
    reason = f"scorer failed: {fault.what.partition(' ')[0]}"
    completions = _completions(run, part)
    none = [_unfit(c) or Score(c.completion_id, None, "", "unanswered", reason) for c in completions]
    _store(run, part, completions, none, [False] * len(none))
    return record_fault(run, chunk.stage, f"{part.artefact.path} ({chunk.by})", fault)


def _is_service(run: Run, name: str) -> bool:
    return isinstance(run.study.scorers.get(name), ServiceSpec) and run.dry is None


def _texts(run: Run, part: Part) -> int:
    samples = run.study.benchmarks.chosen()[part.shard.benchmark].samples
    return round(len(part.shard.prompts) * samples * part.share) or 1


def _part(run: Run, scorer: str, shard: Shard) -> Part:
    return Part(shard, scorer, shard.scored[scorer], run.plan.share(shard.benchmark, scorer))


def texts_of(run: Run, part: Part) -> list[Text]:
    """What the scorer of a part has to read, without what no scorer has to see."""
    return [t for t in _before(part, _completions(run, part)) if isinstance(t, Text)]


def _before(part: Part, completions: list[Completion]) -> list[Score | Text]:
    """What a scorer reads of each completion, or its score where no scorer has to see it."""
    prompts = {p.id: p for p in part.shard.prompts}
    return [
        _unfit(c) or text_of(BENCHMARKS[part.shard.benchmark].scored_text, prompts[c.prompt_id], c)
        for c in completions
    ]


def _groups(run: Run, waiting: list[Part], scorer: Scorer) -> Iterator[list[Part]]:
    """Shards that go to the scorer together: one by one, but several at a time to a service."""
    most = TOGETHER if isinstance(scorer, ServiceScorer) else 1
    group: list[Part] = []
    size = 0
    for part in waiting:
        group.append(part)
        size += _texts(run, part)
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
        scores = [made[read_of(found)] if isinstance(found, Text) else found for found in before]
        unmasked = [isinstance(found, Text) and found.unmasked for found in before]
        _store(run, part, completions, scores, unmasked)
        finish()


def _store(
    run: Run, part: Part, completions: list[Completion], scores: list[Score], unmasked: list[bool]
) -> None:
    """Writes the table of a part: the scores of its completions, in their order."""
    flag_of = {text: coherence_flag(text) if text else "" for text in {c.text for c in completions}}
    flags = [
        flag_of[c.text] or (UNMASKED if without else "")
        for c, without in zip(completions, unmasked, strict=True)
    ]
    columns: dict[str, list[Any]] = {name: [getattr(s, name) for s in scores] for name in OF_A_SCORE}
    columns["completion_id"] = [c.completion_id for c in completions]
    columns |= {name: [getattr(c, name) for c in completions] for name in ("prompt_id", "sample", "tokens")}
    frame = pl.DataFrame(columns | {"flag": flags}, schema_overrides=SCORES).select(list(SCORES))
    unanswered = sum(s.status == "unanswered" for s in scores)
    run.store.put_table(part.artefact, frame, unanswered=unanswered)


def _completions(run: Run, part: Part) -> list[Completion]:
    frame = run.store.scan(part.shard.completions).select(READ).collect()
    columns = [frame[name].to_list() for name in READ]
    return [
        Completion(*row)
        for row in zip(*columns, strict=True)
        if part.share >= 1 or int(row[0][:8], 16) < part.share * 2**32
    ]


def _unfit(completion: Completion) -> Score | None:
    """The score of a completion that no scorer has to see; None for all others."""
    text = Text(completion.completion_id, "", "", "")
    if completion.status == "failed":
        return unscored(text, f"no completion: {completion.reason}")
    return None if completion.text.strip() else unscored(text, "empty completion")
