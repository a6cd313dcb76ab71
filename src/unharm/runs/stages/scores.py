"""The stage that scores completions with the scorers of each benchmark."""

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
from unharm.executors.chunks import Chunk, Fault, Meter, make_chunks
from unharm.runs.context import Run
from unharm.runs.faults import record_fault
from unharm.runs.keys import Shard
from unharm.runs.shards import all_shards, forget_shards, item_of, shard_of
from unharm.scoring.coherence import RATES, UNMASKED, coherence_flag
from unharm.scoring.registry import has_model
from unharm.scoring.scorer import Scorer, unscored
from unharm.scoring.service_scorer import ServiceScorer
from unharm.scoring.settings import GuardSpec, asks_service
from unharm.scoring.texts import Text, text_of
from unharm.store.store import Artefact, NotDone

PER_PROCESS = 100_000
"""This many texts make one more local process worth its start time."""

SCORES = {
    **schema_of(Score),
    "prompt_id": pl.String,
    "sample": pl.Int64,
    "flag": pl.String,
    "tokens": pl.Int64,
}

SCORE_FIELDS = [f.name for f in fields(Score)]
READ = [f.name for f in fields(Completion)][:-1]
"""Columns of completions that scorers read: all but the option probabilities."""

SERVICE_BATCH = 4096
"""Number of completions passed to a service together: enough to keep its connections busy."""
SHARDS = 32
"""Largest number of shards of a chunk if there are several workers."""


@dataclass(frozen=True)
class Part:
    """The part of a shard that one scorer scores: a `share` of its completions, drawn by their ids."""

    shard: Shard
    scorer: str
    artefact: Artefact
    share: float


def parts(run: Run) -> list[Part]:
    """Return everything to score, in the order of the study's scorers."""
    unsorted = [_part(run, name, shard) for shard in all_shards(run) for name in shard.scored]
    order = {name: n for n, name in enumerate(run.plan.scorers)}
    return sorted(unsorted, key=lambda part: order[part.scorer])


def pending(run: Run, every: list[Part] | None = None) -> list[Part]:
    """Return the parts (default: all) that are not scored or that a service did not answer."""
    open_parts = []
    for part in parts(run) if every is None else every:
        marker = run.store.marker(part.artefact)
        if marker is None or marker.get("unanswered"):
            open_parts.append(part)
    return open_parts


def check_scorers(run: Run) -> None:
    """Raise `UserError` with every problem of the scorers that have open parts."""
    names = list(run.plan.scorers)
    if run.store.artefacts("completions"):
        try:
            names = list(dict.fromkeys(part.scorer for part in pending(run)))
        except NotDone:
            forget_shards(run)  # adapters are not done yet
    run.scorers.check(names)


def make_scores(run: Run) -> None:
    """Write one score per completion and scorer to scores/<subject>/<benchmark>/.

    Texts that a service did not answer are recorded as unanswered, and the next run asks again.
    """
    every = parts(run)
    open_parts = pending(run, every)
    sums: Counter[str] = Counter()
    with run.progress("scores", len(every), "shards", len(every) - len(open_parts)) as progress:
        for name in dict.fromkeys(part.scorer for part in open_parts):
            own_parts = [part for part in open_parts if part.scorer == name]
            with_model = has_model(run.study.scorers.get(name))
            texts = sum(_texts(run, part) for part in own_parts)
            size = run.workers.size("scores", texts, PER_PROCESS, with_model)
            chunks = _chunks(run, own_parts, size)
            sums += run.workers.run_chunks(chunks, score_chunk, give_up_scores, progress, size, with_model)
            if isinstance(scorer := run.scorers[name] if chunks[0].local else None, ServiceScorer):
                say(f"scores: {name}: {scorer.summary()}")
    if again := sums["repeats"]:
        say(f"scores: {again:,} of {sums['texts']:,} repeat another text and were not scored again")
    run.store.refresh("scores")
    _tell_unknown(run, every)
    frames = [run.store.scan(part.artefact).select("status") for part in every]
    counts = dict(pl.concat(frames).group_by("status").len().collect().iter_rows())
    run.scored = counts.pop("scored", 0)
    run.unscored = sum(counts.values())
    if run.unscored:
        breakdown = ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items()))
        say(f"scores: {run.unscored:,} of {run.unscored + run.scored:,} have no score ({breakdown})")


def _tell_unknown(run: Run, every: list[Part]) -> None:
    """Say which categories guards gave that their presets do not know."""
    guards = {name for name, spec in run.study.scorers.items() if isinstance(spec, GuardSpec)}
    labels: dict[str, list[pl.LazyFrame]] = {}
    for part in every:
        if part.scorer in guards:
            labels.setdefault(part.scorer, []).append(run.store.scan(part.artefact).select("label"))
    for name, frames in labels.items():
        unknown = pl.col("label").str.extract_all(r"unknown \([^)]*\)").explode().drop_nulls()
        counts = pl.concat(frames).select(unknown.value_counts(sort=True)).collect()["label"].to_list()
        if counts:
            shown = ", ".join(f"{c['label'][9:-1]} ({c['count']:,})" for c in counts[:5])
            say(f"scores: {name} named categories that its preset does not know: {shown}")


def _chunks(run: Run, scorer_parts: list[Part], workers: int) -> list[Chunk]:
    """Return the chunks of one scorer. The leading process asks services: it has the API keys, and one rate
    limit holds for all requests."""
    name = scorer_parts[0].scorer
    items = [item_of(run, part.shard) for part in scorer_parts]
    return make_chunks("scores", name, items, workers, SHARDS, local=_is_service(run, name))


def score_chunk(run: Run, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """Score the parts of a chunk that are not scored yet."""
    repeats = [0, 0]
    scorer = run.scorers[chunk.handler]
    open_parts = pending(run, [_part(run, chunk.handler, shard_of(run, item)) for item in chunk.items])
    meter.skip(len(chunk.items) - len(open_parts))
    for group in _groups(run, open_parts, scorer):
        if interrupt.stop_requested():
            break
        _score(run, scorer, group, repeats)
        meter.tick(len(group))
    return {"repeats": repeats[0], "texts": repeats[1]}


def give_up_scores(run: Run, chunk: Chunk, fault: Fault) -> str:
    """Record the missing scores of a shard as unanswered."""
    part = _part(run, chunk.handler, shard_of(run, chunk.items[0]))
    reason = f"scorer failed: {fault.summary.partition(' ')[0]}"
    completions = _completions(run, part)
    scores = [_unfit(c) or Score(c.completion_id, None, "", "unanswered", reason) for c in completions]
    _store(run, part, completions, scores, [False] * len(scores))
    return record_fault(run, chunk.stage, f"{part.artefact.path} ({chunk.handler})", fault)


def _is_service(run: Run, name: str) -> bool:
    """Return whether a scorer asks a service."""
    return asks_service(run.study.scorers.get(name)) and run.dry is None


def _texts(run: Run, part: Part) -> int:
    """Return about how many texts a part has."""
    samples = run.plan.samples(part.shard.subject.arm, part.shard.benchmark)
    return round(len(part.shard.prompts) * samples * part.share) or 1


def _part(run: Run, scorer: str, shard: Shard) -> Part:
    return Part(shard, scorer, shard.scored[scorer], run.plan.share(shard.benchmark, scorer))


def texts_of(run: Run, part: Part) -> list[Text]:
    """Return the texts of a part that its scorer must read."""
    return [t for t in _texts_or_scores(part, _completions(run, part)) if isinstance(t, Text)]


def _texts_or_scores(part: Part, completions: list[Completion]) -> list[Score | Text]:
    """Return for each completion the text to score, or its score if it needs no scorer."""
    prompts = {p.id: p for p in part.shard.prompts}
    return [
        _unfit(c) or text_of(BENCHMARKS[part.shard.benchmark].scored_text, prompts[c.prompt_id], c)
        for c in completions
    ]


def _groups(run: Run, waiting: list[Part], scorer: Scorer) -> Iterator[list[Part]]:
    """Group parts for the scorer: one by one, but several at a time for a service."""
    enough = SERVICE_BATCH if isinstance(scorer, ServiceScorer) else 1
    group: list[Part] = []
    size = 0
    for part in waiting:
        group.append(part)
        size += _texts(run, part)
        if size >= enough:
            yield group
            group, size = [], 0
    if group:
        yield group


def _score(run: Run, scorer: Scorer, group: list[Part], repeats: list[int]) -> None:
    """Score the completions of some parts and store their tables. Equal texts are scored once."""
    inputs: list[tuple[Part, list[Completion], list[Score | Text]]] = []
    distinct: dict[tuple[str, str], Text] = {}
    whole = run.plan.scorers[group[0].scorer].reads == "answer"

    def identity(text: Text) -> tuple[str, str]:
        """Return what the scorer reads of a text."""
        return text.prompt, text.answer if whole else text.text

    ends = [run.begin_task("scores", part.artefact) for part in group]
    for part in group:
        completions = _completions(run, part)
        texts_or_scores = _texts_or_scores(part, completions)
        texts = [t for t in texts_or_scores if isinstance(t, Text)]
        known = len(distinct)
        for text in texts:
            distinct.setdefault(identity(text), text)
        repeats[0] += len(texts) - (len(distinct) - known)
        repeats[1] += len(texts)
        inputs.append((part, completions, texts_or_scores))
    score_of = dict(zip(distinct, scorer(list(distinct.values())), strict=True)) if distinct else {}
    for end_task, (part, completions, texts_or_scores) in zip(ends, inputs, strict=True):
        scores = [score_of[identity(x)] if isinstance(x, Text) else x for x in texts_or_scores]
        unmasked = [isinstance(x, Text) and x.unmasked for x in texts_or_scores]
        _store(run, part, completions, scores, unmasked)
        end_task()


def _store(
    run: Run, part: Part, completions: list[Completion], scores: list[Score], unmasked: list[bool]
) -> None:
    """Write the scores of a part in the order of its completions."""
    rated = BENCHMARKS[part.shard.benchmark].mode == "rate"
    flag_of = {text: coherence_flag(text) if text else "" for text in {c.text for c in completions}}
    if not rated:
        flag_of |= {
            t: RATES for t, flag in flag_of.items() if not flag and run.plan.pack.is_rating_answer(t)
        }
    flags = [
        flag_of[c.text] or (UNMASKED if is_unmasked else "")
        for c, is_unmasked in zip(completions, unmasked, strict=True)
    ]
    columns: dict[str, list[Any]] = {name: [getattr(s, name) for s in scores] for name in SCORE_FIELDS}
    columns["completion_id"] = [c.completion_id for c in completions]
    columns |= {name: [getattr(c, name) for c in completions] for name in ("prompt_id", "sample", "tokens")}
    frame = pl.DataFrame(columns | {"flag": flags}, schema_overrides=SCORES).select(list(SCORES))
    unanswered = sum(s.status == "unanswered" for s in scores)
    run.store.put_table(part.artefact, frame, unanswered=unanswered)


def _completions(run: Run, part: Part) -> list[Completion]:
    """Read the completions of a part."""
    frame = run.store.scan(part.shard.completions).select(READ).collect()
    columns = [frame[name].to_list() for name in READ]
    return [
        Completion(*row)
        for row in zip(*columns, strict=True)
        if part.share >= 1 or int(row[0][:8], 16) < part.share * 2**32
    ]


def _unfit(completion: Completion) -> Score | None:
    """Return the score of a failed or empty completion, which needs no scorer; None for all others."""
    text = Text(completion.completion_id, "", "", "")
    if completion.status == "failed":
        return unscored(text, f"no completion: {completion.reason}")
    return None if completion.text.strip() else unscored(text, "empty completion")
