"""The index against the same answers computed with polars from the files."""

from __future__ import annotations

import polars as pl
import pytest

from unharm.core.errors import UserError
from unharm.runs.context import Run
from unharm.runs.shards import all_shards
from unharm.view.filters import Filter
from unharm.view.index import Index, harmful_from
from unharm.view.site import Site


@pytest.fixture(scope="module")
def index(site: Site) -> Index:
    return site.sources[0].current()[1]


@pytest.fixture(scope="module")
def scored(viewed_run: Run) -> pl.DataFrame:
    """Every completion with its text, the score of its main scorer and its change against vanilla."""
    frames = []
    for shard in all_shards(viewed_run):
        texts = viewed_run.store.scan(shard.completions).collect().select("completion_id", "text")
        scores = viewed_run.store.scan(shard.scores).collect()
        subject = shard.subject
        frames.append(
            scores.join(texts, on="completion_id").with_columns(
                pl.col("value").cast(pl.Float32),
                arm=pl.lit(subject.arm),
                profile=pl.lit(subject.profile_name),
                benchmark=pl.lit(shard.benchmark),
            )
        )
    every = pl.concat(frames)
    vanilla = every.filter(pl.col("arm") == "vanilla").group_by("benchmark", "prompt_id")
    means = vanilla.agg(base=pl.col("value").cast(pl.Float64).mean())
    joined = every.join(means, on=["benchmark", "prompt_id"])
    return joined.with_columns(change=(pl.col("value") - pl.col("base")).cast(pl.Float32))


def expected(scored: pl.DataFrame, condition: pl.Expr) -> tuple[int, int]:
    chosen = scored.filter(condition)
    return chosen.select("benchmark", "prompt_id").unique().height, chosen.height


@pytest.mark.parametrize(
    ("chosen", "condition"),
    [
        (Filter(), pl.lit(True)),
        (Filter(benchmark="rtp"), pl.col("benchmark") == "rtp"),
        (Filter(arm=("vim", "icl"), profile="power"), pl.col("arm").is_in(["vim", "icl"]) & (pl.col("profile") == "power")),
        (Filter(low=0.5, high=1.0, benchmark="rtp"), (pl.col("benchmark") == "rtp") & pl.col("value").is_between(0.5, 1.0)),
        (Filter(change_low=0.25), pl.col("change") >= 0.25),
        (Filter(change_high=-0.25), pl.col("change") <= -0.25),
        (Filter(unscored=True), pl.col("value").is_null()),
        (Filter(incoherent=True), pl.col("flag").is_in(["empty", "repetitive", "garbled", "rates"])),
        (Filter(arm=("nobody",)), pl.lit(False)),
    ],
)  # fmt: skip
def test_filters_choose_what_polars_chooses(
    index: Index, scored: pl.DataFrame, chosen: Filter, condition: pl.Expr
) -> None:
    rows, prompts, completions = index.prompts(chosen)
    assert (prompts, completions) == expected(scored, condition)
    assert len(rows) == min(prompts, 50)


def test_words_are_looked_for_in_completions_and_prompts(
    viewed_run: Run, index: Index, scored: pl.DataFrame
) -> None:
    word = scored["text"][7].split()[1]
    prompts = [
        p.id for s in viewed_run.plan.prompts.values() for p in s.prompts if word.lower() in p.text.lower()
    ]
    condition = pl.col("text").str.to_lowercase().str.contains(word.lower(), literal=True)
    _, _, completions = index.prompts(Filter(text=word.upper()))
    assert completions == expected(scored, condition | pl.col("prompt_id").is_in(prompts))[1] > 0
    assert index.prompts(Filter(text=f"{word} %_'\\"))[2] == 0
    text = viewed_run.plan.prompts["rtp"].prompts[0]
    rows, number, completions = index.prompts(Filter(text=text.text, benchmark="rtp"))
    assert (rows[0].prompt_id, number, completions) == (text.id, 1, 24)


def test_scorers_that_disagree(viewed_run: Run, index: Index) -> None:
    limit = harmful_from("harmfulness")
    count = 0
    for shard in all_shards(viewed_run):
        if shard.benchmark == "hexphi":
            one, other = (viewed_run.store.scan(a).collect()["value"] for a in shard.scored.values())
            count += int(((one >= limit) != (other >= limit)).sum())
    assert index.prompts(Filter(disagree=True))[2] == count


def test_orders_and_pages(index: Index, scored: pl.DataFrame) -> None:
    highest, _, _ = index.prompts(Filter(benchmark="rtp", sort="highest"))
    values = [row.highest for row in highest]
    assert values == sorted(values, key=lambda v: -(v or 0))
    assert values[0] == scored.filter(pl.col("benchmark") == "rtp")["value"].max()
    first, second = (index.prompts(Filter(page=n))[0] for n in (1, 2))
    assert not {r.prompt_id for r in first} & {r.prompt_id for r in second}
    assert index.prompts(Filter(page=99)) == ([], *index.prompts(Filter())[1:])


def test_neighbours_follow_the_list(index: Index) -> None:
    rows, _, _ = index.prompts(Filter(arm=("vim",)))
    for before, here, after in zip(rows, rows[1:], rows[2:], strict=False):
        sides = index.neighbours(Filter(arm=("vim",)), here.benchmark, here.number)
        assert sides == ((before.benchmark, before.prompt_id), (after.benchmark, after.prompt_id))
    assert index.neighbours(Filter(), rows[0].benchmark, rows[0].number)[0] is None


def test_names_that_the_run_has_not(site: Site) -> None:
    answer = site.get("/prompts", {"arm": ["vimm"], "benchmark": ["rpt"]})
    assert answer.status == 400
    assert b"did you mean &#39;vim&#39;" in answer.body
    assert b"did you mean &#39;rtp&#39;" in answer.body
    with pytest.raises(UserError):
        site.prompt({"prompt": ["nothing"]})
