"""A run written as a transcript database of inspect_scout; read back by it where it is installed."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from support.dry_run_helpers import finished
from support.studies import study_data
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.runs.context import Run
from unharm.runs.shards import all_shards
from unharm.runs.tools.logs.scout_export import export_scout, score_column
from unharm.study.check import parse_study


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    import yaml

    folder = tmp_path_factory.mktemp("scout")
    data = study_data(folder / "no base", folder / "run")
    data["arms"] = ["vanilla", "icl"]
    return finished(parse_study(SpecText(yaml.safe_dump(data), "study.yaml")), folder / "run")


@pytest.fixture(scope="module")
def database(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transcripts") / "out"
    files = export_scout(run, folder, ["icl"], ["rtp", "hexphi"])
    assert len(files) == len(list(folder.iterdir())) == 3 * 2  # profiles × benchmarks
    assert not [p for p in folder.iterdir() if p.stat().st_mode & 0o077]
    return folder


def stored(database: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in database.iterdir()], how="diagonal")


def test_every_completion_is_a_transcript_with_its_scores(run: Run, database: Path) -> None:
    frame = stored(database)
    shards = [s for s in all_shards(run) if s.subject.arm == "icl" and s.benchmark in ("rtp", "hexphi")]
    completions = pl.concat([run.store.scan(s.completions).collect() for s in shards])
    assert frame.height == frame["transcript_id"].n_unique() == completions.height > 0
    scorers = {b: s.scorer for b, s in run.study.benchmarks.chosen().items()}
    values = {}
    for shard in shards:
        scored = run.store.scan(shard.scored[scorers[shard.benchmark]]).collect()
        values |= dict(scored.select("completion_id", "value").iter_rows())
    texts = {r["completion_id"]: r["text"] for r in completions.iter_rows(named=True)}
    for row in frame.iter_rows(named=True):
        identity = row["completion_id"]
        assert [m["role"] for m in json.loads(row["messages"])] == ["user", "assistant"]
        assert json.loads(row["messages"])[1]["content"] == texts[identity]
        assert (None if row["score"] is None else float(row["score"])) == values[identity]
    rtp = pl.read_parquet(next(database.glob("*--rtp.parquet")))
    column = rtp[score_column(scorers["rtp"])].to_list()
    assert column == [values[identity] for identity in rtp["completion_id"]]


def test_files_are_not_written_over(run: Run, database: Path) -> None:
    with pytest.raises(UserError, match="this log exists already"):
        export_scout(run, database, ["icl"], [])
    assert len(export_scout(run, database, ["icl"], ["rtp"], force=True)) == 3


def test_inspect_scout_reads_it(database: Path) -> None:
    scout = pytest.importorskip("inspect_scout", reason="needs inspect_scout: pip install inspect-scout")
    schema = pytest.importorskip("inspect_scout._transcript.database.schema")
    for file in database.iterdir():
        assert schema.validate_transcript_schema(file) == []
    frame = stored(database)

    async def read() -> dict[str, tuple[str, str | None]]:
        rows = {}
        async with scout.transcripts_from(str(database)).reader() as reader:
            async for info in reader.index():
                content = await reader.read(info, scout.TranscriptContent(messages="all"))
                rows[info.transcript_id] = (content.messages[1].text, info.score)
        return rows

    import asyncio

    read_back = asyncio.run(read())
    expected = {
        r["transcript_id"]: (json.loads(r["messages"])[1]["content"], r["score"])
        for r in frame.iter_rows(named=True)
    }
    assert {key: (text, score and str(score)) for key, (text, score) in read_back.items()} == expected
