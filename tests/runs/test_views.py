"""SQL over a run: what the views hold, and what a query may not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.dry_run_helpers import finished
from support.studies import study_data
from unharm.core.errors import UserError
from unharm.runs import views
from unharm.runs.context import Run
from unharm.runs.shards import all_shards
from unharm.runs.views import Views, make_views
from unharm.study.check import parse_study

pytest.importorskip("duckdb", reason="needs the extra 'view'")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    import yaml

    from unharm.core.files.yaml_text import SpecText

    folder = tmp_path_factory.mktemp("views")
    data = study_data(folder / "no base", folder / "run")
    return finished(parse_study(SpecText(yaml.safe_dump(data), "study.yaml")), folder / "o'brien")


@pytest.fixture(scope="module")
def opened(run: Run) -> Iterator[Views]:
    with make_views(run) as opened:
        yield opened


def test_the_views_hold_what_the_files_hold(run: Run, opened: Views) -> None:
    shards = all_shards(run)
    wanted: dict[tuple[Any, ...], int] = {}
    for shard in shards:
        rows = run.store.scan(shard.completions).collect().height
        key = (shard.subject.arm, shard.subject.profile_name, shard.benchmark)
        wanted[key] = wanted.get(key, 0) + rows
    counted = opened.query("select arm, profile, benchmark, count(*) from completions group by all")
    assert {row[:3]: row[3] for row in counted.rows()} == wanted
    scored = opened.query("select count(*), count(distinct completion_id), count(value) from scores").row(0)
    assert scored == (sum(wanted.values()),) * 3
    joined = "select count(*) from completions join scores using (completion_id, arm, benchmark)"
    assert opened.query(joined).item() == sum(wanted.values())
    assert opened.query("select count(*) from prompts where benchmark = 'rtp'").item() == 4
    assert opened.query("select power from profiles where profile = 'power'").item() == 6
    assert opened.query("select count(*) from subjects").item() > 0
    assert opened.query("select any_value(seed) from completions").item() is None


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('/etc/hostname')",
        "copy completions to 'x.csv'",
        "attach 'x.db'",
        "create table x as select 1",
        "select 1; select 2",
        "set memory_limit = '9GB'",
        "install httpfs",
        "select nothing from completions",
        "select * from completion",
        "explain analyze copy completions to 'x.csv'",
        "",
    ],
)
def test_a_query_only_reads_the_run(opened: Views, sql: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        opened.query(sql)


def test_files_of_other_settings_are_left_out(run: Run, opened: Views) -> None:
    before = opened.query("select count(*) from completions").item()
    shard = all_shards(run)[0]
    file = run.store.root / shard.completions.path
    stale = file.with_name("000000-0123456789ab.parquet")
    stale.write_bytes(file.read_bytes())
    try:
        with make_views(run) as again:
            assert again.query("select count(*) from completions").item() == before
    finally:
        stale.unlink()


def test_a_run_without_completions_has_empty_views(tmp_path: Path, load: Any) -> None:
    from unharm.core.pace import Dry
    from unharm.runs.plan import Plan
    from unharm.store.store import Store

    study = load(study_data(tmp_path / "no base", tmp_path / "run"))
    with make_views(Run(study, Store(tmp_path / "run"), Plan(study), dry=Dry())) as empty:
        assert empty.query("select completion_id, text, arm from completions").height == 0
        assert empty.query("select value, scorer from scores").height == 0
        assert "arms" not in empty.names


def test_tables_of_another_version_are_read_or_refused(tmp_path: Path, load: Any) -> None:
    from unharm.core.pace import Dry
    from unharm.runs.plan import Plan
    from unharm.store.store import Store

    study = load(study_data(tmp_path / "no base", tmp_path / "run"))
    run = Run(study, Store(tmp_path / "run"), Plan(study), dry=Dry())
    table = tmp_path / "run" / "findings" / "arms.csv"
    table.parent.mkdir(parents=True)
    table.write_text("metric,arm\nflagged_rate,vim\n")
    with make_views(run) as earlier:
        assert earlier.rows("select arm, metric, value from arms") == [("vim", "flagged_rate", None)]
    table.write_text("metric,arm,news\nflagged_rate,vim,1\n")
    with pytest.raises(UserError, match="made by another version"):
        make_views(run)


def test_without_duckdb_there_is_one_message(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'unharm\[view\]'"):
        make_views(run)
