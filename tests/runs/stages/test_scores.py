"""Tests of `unharm.runs.stages.scores`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from support.scoring_helpers import one
from unharm.core.records import Score
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards
from unharm.scoring import SCORERS
from unharm.scoring.coherence import RATES
from unharm.scoring.texts import Text


def test_equal_texts_of_a_prompt_are_scored_once_and_nothing_changes(
    tiny_study: dict[str, Any], load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed and empty completions stay unscored in their place; the others are scored as one by one."""
    tiny_study |= {"arms": ["vanilla"], "benchmarks": {"rtp": tiny_study["benchmarks"]["rtp"]}}
    del tiny_study["corpus"]
    tiny_study["benchmarks"]["rtp"] |= {"limit": 4, "samples": 5}
    study = load(tiny_study)
    run = run_study(study, "completions")
    texts = [" all is well.", " you idiot.", " all is well. Really.", "", " you idiot."]
    for shard in all_shards(run):
        frame = run.store.scan(shard.completions).collect()
        frame = frame.with_columns(
            text=pl.Series([texts[s] for s in frame["sample"]]),
            status=pl.when(pl.col("sample") == 4).then(pl.lit("failed")).otherwise("status"),
            reason=pl.when(pl.col("sample") == 4).then(pl.lit("prompt too long")).otherwise("reason"),
        )
        run.store.put_table(shard.completions, frame)
    asked: list[int] = []
    plain = SCORERS["offline-toxicity"].score

    def counted(some: Sequence[Text]) -> list[Score]:
        asked.append(len(some))
        return plain(some)

    monkeypatch.setitem(SCORERS, "offline-toxicity", replace(SCORERS["offline-toxicity"], score=counted))
    again = run_study(study, "scores")
    scores = pl.concat([again.store.scan(s.scores) for s in all_shards(again)]).collect()
    completions = pl.concat([again.store.scan(s.completions) for s in all_shards(again)]).collect()
    assert sum(asked) == 8  # two different first sentences of each of the four prompts
    assert scores["completion_id"].to_list() == completions["completion_id"].to_list()
    expected = [
        None
        if t == "" or n % 5 == 4
        else one("offline-toxicity", t, again.plan.prompts["rtp"].prompts[n // 5])
        for n, t in enumerate(completions["text"].to_list())
    ]
    assert scores["value"].to_list() == expected
    by_sample = scores.sort("sample").group_by("sample", maintain_order=True).first()
    assert by_sample["reason"].to_list() == [
        "",
        "",
        "",
        "empty completion",
        "no completion: prompt too long",
    ]
    assert (again.scored, again.unscored) == (12, 8)


def test_a_scorer_of_whole_answers_sees_what_follows_the_first_sentence(
    tiny_study: dict[str, Any], load: Any
) -> None:
    """Two answers with the same first sentence are one text to the toxicity scorer, and two to the other."""
    tiny_study |= {"arms": ["vanilla"]}
    del tiny_study["corpus"]
    tiny_study["benchmarks"] = {
        "rtp": tiny_study["benchmarks"]["rtp"] | {"also": ["offline-values"], "samples": 2}
    }
    study = load(tiny_study)
    run = run_study(study, "completions")
    texts = [" all went on. He had power.", " all went on. It was fun."]
    for shard in all_shards(run):
        frame = run.store.scan(shard.completions).collect()
        changed = frame.with_columns(text=pl.Series([texts[s] for s in frame["sample"]]))
        run.store.put_table(shard.completions, changed)
    again = run_study(study, "scores")
    labels = [
        again.store.scan(s.scored["offline-values"])
        .collect()
        .sort("prompt_id", "sample")["label"]
        .to_list()
        for s in all_shards(again)
    ]
    assert [x for some in labels for x in some] == ["expressed: power", "expressed: hedonism"] * 4
    toxicity = pl.concat([again.store.scan(s.scores) for s in all_shards(again)]).collect()
    assert toxicity.group_by("prompt_id").agg(pl.col("value").n_unique())["value"].to_list() == [1] * 4


def test_an_answer_to_the_questionnaire_elsewhere_is_flagged(tiny_study: dict[str, Any], load: Any) -> None:
    """An adapter that learned from ratings alone may rate whatever it reads."""
    chosen = {name: tiny_study["benchmarks"][name] for name in ("rtp", "questionnaire")}
    tiny_study |= {"arms": ["vanilla"], "benchmarks": chosen}
    del tiny_study["corpus"]
    study = load(tiny_study)
    run = run_study(study, "completions")
    answer = run.plan.pack.rating_answer("power", 6)
    for shard in all_shards(run):
        frame = run.store.scan(shard.completions).collect()
        run.store.put_table(shard.completions, frame.with_columns(text=pl.lit(answer)))
    run = run_study(study, "findings")
    flags = {
        s.benchmark: run.store.scan(s.scores).collect()["flag"].unique().to_list() for s in all_shards(run)
    }
    assert flags == {"rtp": [RATES], "questionnaire": [""]}
    subjects = run.store.read_table("findings/subjects.csv").filter(pl.col("metric") == "incoherent_share")
    assert subjects["value"].to_list() == [1.0]
