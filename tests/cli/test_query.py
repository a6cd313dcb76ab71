"""`unharm query` and `RunHandle.sql` on a dry run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner, Result

import unharm
from support.dry_run_helpers import finished
from support.studies import study_data
from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.core.pace import Dry
from unharm.runs.context import Run
from unharm.runs.tools import query as queries
from unharm.runs.views import Views, make_views, open_views
from unharm.store.store import Store
from unharm.study.check import parse_study

pytest.importorskip("duckdb", reason="needs the extra 'view'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A dry run. It has no base, so its views are opened as those of the run that made it."""
    home = tmp_path_factory.mktemp("query")
    data = study_data(home / "no base", home / "run")
    run = finished(parse_study(SpecText(yaml.safe_dump(data), "study.yaml")), home / "run")

    def opened(path: Path) -> Views:
        return make_views(Run(run.study, Store(path), run.plan, dry=Dry()))

    with (
        mock.patch("unharm.runs.tools.query.open_views", opened),
        mock.patch("unharm.runs.handle.open_views", opened),
    ):
        yield run.store.root


def query(*words: str) -> Result:
    return CliRunner().invoke(app, ["query", *words])


def test_the_terminal_gets_a_table(folder: Path) -> None:
    sql = (
        "select arm, count(*) as n, avg(tokens) as mean from completions group by arm order by n desc, arm"
    )
    result = query(str(folder), sql)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["arm", "n", "mean"]
    assert [line[0] for line in lines[1:]] == ["icl", "vim", "benign:grammar", "vanilla"]
    assert query(str(folder), sql, "--rows", "1").stderr == "3 more rows: --rows, --csv or --parquet\n"


def test_texts_are_hidden_unless_revealed_whatever_their_column_is_called(folder: Path) -> None:
    sql = "select c.arm, c.completion_id, upper(c.text) as arm2, [p.text] as p from completions c"
    sql += " join prompts p using (benchmark, prompt_id) where benchmark = 'rtp' limit 3"
    rows = json.loads(query(str(folder), sql, "--json").stdout)
    assert rows["hidden"] == 6
    assert {row["arm"] for row in rows["rows"]} == {"vanilla"}
    assert all(
        row["arm2"].endswith("characters]") and row["p"][0].endswith("characters]") for row in rows["rows"]
    )
    revealed = json.loads(query(str(folder), sql, "--json", "--reveal").stdout)
    assert revealed["hidden"] == 0
    assert not any(row["arm2"].endswith("characters]") for row in revealed["rows"])
    assert query(str(folder), "select 'plain' as word, status from scores limit 1").stdout.split()[2:] == [
        "plain",
        "scored",
    ]


def test_files_have_all_rows_and_texts(folder: Path, tmp_path: Path) -> None:
    sql = "select benchmark, prompt_id, text, options from completions order by all"
    csv, parquet = tmp_path / "a.csv", tmp_path / "a.parquet"
    result = query(str(folder), sql, "--csv", str(csv), "--parquet", str(parquet))
    assert result.exit_code == 0, result.output
    frame = unharm.open_run(folder).sql(sql)
    assert pl.read_parquet(parquet).equals(frame)
    assert pl.read_csv(csv, infer_schema_length=None)["prompt_id"].to_list() == frame["prompt_id"].to_list()
    assert csv.stat().st_mode & 0o077 == 0
    assert "exists already" in str(query(str(folder), sql, "--csv", str(csv)).exception)
    assert query(str(folder), sql, "--csv", str(csv), "--force").exit_code == 0


def test_without_a_statement_the_views_are_listed(folder: Path) -> None:
    views = json.loads(query(str(folder), "--json").stdout)
    assert {"completions", "scores", "prompts", "profiles", "subjects", "comparisons"} <= set(views)
    assert "value double" in views["scores"]
    assert "completions: arm varchar" in query(str(folder)).stdout


@pytest.mark.parametrize(
    "sql", ["select nothing from completions", "drop view scores", "select 1; select 2", "x"]
)
def test_a_wrong_statement_is_told(folder: Path, sql: str) -> None:
    assert isinstance(query(str(folder), sql).exception, UserError)


def test_without_duckdb_one_command_is_printed(folder: Path) -> None:
    with mock.patch("unharm.runs.views.find_spec", return_value=None):
        assert "pip install 'unharm[view]'" in str(query(str(folder), "select 1").exception)


def test_a_folder_that_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "open_views", open_views)
    assert "no run in this folder" in str(query(str(tmp_path), "select 1").exception)
