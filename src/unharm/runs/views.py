"""Views of DuckDB over a run: SQL over its Parquet files, which are read in place and never loaded whole.

    with open_views("runs/quickstart") as views:
        views.query("select arm, count(*) from completions group by arm")

Views and tables:

| name | rows |
|---|---|
| completions | completions of all subjects: the subject, then `core.records.Completion` |
| scores | scores of all scorers, with subject, benchmark and scorer |
| prompts | the prompts of all benchmarks |
| profiles | the profiles with their importances |
| the tables of `analysis.schemas` | the findings that are made; `subjects` among them |

Shards of earlier settings stay in the run folder, but are in no view. What is not made yet is left out too,
so a run that goes on can be read.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import polars as pl

from unharm.analysis.schemas import SCHEMAS
from unharm.core.errors import UserError
from unharm.core.records import Completion, Subject, schema_of
from unharm.core.values import VALUES
from unharm.runs.context import LoadedBase, Run
from unharm.runs.keys import Shard
from unharm.runs.plan import Plan
from unharm.runs.reopen import stored_study
from unharm.runs.shards import shards_of
from unharm.runs.stages.scores import SCORES
from unharm.store.store import Artefact, NotDone, Store
from unharm.store.tables import read_csv
from unharm.study.check import parse_study

if TYPE_CHECKING:
    import duckdb

Row = tuple[Any, ...]

MEMORY = "512MB"
"""Memory that DuckDB uses at most; beyond it, it spills to disk."""
COMPLETIONS = {name: kind for name, kind in schema_of(Completion).items() if name != "thought"}
TYPES = {pl.String: "VARCHAR", pl.Int64: "BIGINT", pl.Float64: "DOUBLE", pl.Boolean: "BOOLEAN"}
INSTALL = "pip install 'unharm[view]'"


@dataclass(frozen=True)
class ShardFile:
    """A finished Parquet file of a run.

    Attributes:
        path: The file.
        subject: Whose completions it has.
        benchmark: The benchmark.
        prompts: The ids of its prompts.
        scorer: The scorer of a file of scores; empty for a file of completions.
    """

    path: Path
    subject: Subject
    benchmark: str
    prompts: tuple[str, ...]
    scorer: str = ""


@dataclass
class Views:
    """A connection with the views of a run. Use it with `with`; several threads take a cursor each.

    Attributes:
        run: The run, for reading.
        connection: The connection. It reads files of this run's folders only and changes nothing in them.
        files: The files that the views read.
    """

    run: Run
    connection: duckdb.DuckDBPyConnection
    files: list[ShardFile]
    _spill: str = field(repr=False, default="")

    def __enter__(self) -> Views:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and remove what it spilled to disk."""
        self.connection.close()
        self.run.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    @cached_property
    def names(self) -> list[str]:
        """The names of the views and tables."""
        rows = self.connection.execute("select table_name from information_schema.tables order by 1")
        return [str(name) for (name,) in rows.fetchall()]

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a statement of ours on a cursor of its own and return all rows."""
        return self.connection.cursor().execute(sql, list(parameters)).fetchall()

    def query(self, sql: str) -> pl.DataFrame:
        """Run one SELECT statement that a user wrote.

        Raises:
            UserError: It is no single SELECT statement, or DuckDB rejects it.
        """
        import duckdb

        cursor = self.connection.cursor()
        try:
            statements = cursor.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UserError("expected one SELECT statement", "the query", "a run is read only")
            return pl.DataFrame(cursor.sql(sql))
        except duckdb.Error as error:
            known = f"there are: {', '.join(self.names)}"
            raise UserError(str(error).strip(), "the query", known) from None


def check_duckdb(where: str) -> None:
    """Raise `UserError` where DuckDB is not installed."""
    if find_spec("duckdb") is None:
        raise UserError("the package duckdb is not installed", where, INSTALL)


def open_views(folder: str | Path, memory: str = MEMORY) -> Views:
    """Open the views of a run folder, also while the run goes on.

    Args:
        folder: The run folder or URL.
        memory: Memory that DuckDB uses at most.

    Raises:
        UserError: The folder is no run, or DuckDB is not installed.
    """
    check_duckdb("unharm.runs.views")
    study = parse_study(stored_study(Path(folder)))
    run = Run(study, Store.open(folder), Plan(study), shared_base=LoadedBase(study, check=False))
    return make_views(run, memory)


def make_views(run: Run, memory: str = MEMORY) -> Views:
    """Make the views of an open run. See `open_views`."""
    check_duckdb("unharm.runs.views")
    import duckdb

    run.store.refresh()
    run.store.pull("findings")
    files = finished_files(run)
    spill = tempfile.mkdtemp(prefix="unharm-views-")
    connection = duckdb.connect(":memory:")
    connection.execute("set python_enable_replacements = false")
    connection.execute(f"set memory_limit = {_text(memory)}")
    connection.execute(f"set threads = {max(1, min(4, os.cpu_count() or 1))}")
    connection.execute(f"set temp_directory = {_text(spill)}")
    connection.execute("set parquet_metadata_cache = true")
    _make_tables(connection, run, files, Path(spill))
    folders = [f"{run.store.root.absolute()}/{name}/" for name in ("completions", "scores")]
    connection.execute(f"set allowed_directories = [{', '.join(map(_text, folders))}]")
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return Views(run, connection, files, spill)


def finished_files(run: Run) -> list[ShardFile]:
    """Return the finished files of completions and scores, in the order of the subjects.

    Their checksums are not compared, since that would read every byte.
    """
    done = {(a.path, a.key) for under in ("completions", "scores") for a in run.store.artefacts(under)}
    return [file for shard in _known_shards(run) for file in _files_of(run, shard, done)]


def _known_shards(run: Run) -> Iterator[Shard]:
    """Yield the shards whose adapters are made."""
    for subject in run.plan.subjects:
        try:
            yield from shards_of(run, subject)
        except NotDone:
            continue


def _files_of(run: Run, shard: Shard, done: set[tuple[str, str]]) -> Iterator[ShardFile]:
    prompts = tuple(p.id for p in shard.prompts)
    artefacts: dict[str, Artefact] = {"": shard.completions, **shard.scored}
    for scorer, artefact in artefacts.items():
        if (artefact.path, artefact.key) in done:
            path = run.store.root.absolute() / artefact.path
            if run.store.remote:
                path = run.store.locate(artefact)
            if path.exists():
                yield ShardFile(path, shard.subject, shard.benchmark, prompts, scorer)


def _read_findings(path: Path, schema: dict[str, Any]) -> pl.DataFrame:
    """Read a table of findings. Columns that an earlier version did not write are null.

    Raises:
        UserError: It has columns that are not known.
    """
    with path.open(encoding="utf-8", newline="") as file:
        written = next(csv.reader(file), [])
    try:
        frame = read_csv(path, {name: schema[name] for name in written})
    except (KeyError, pl.exceptions.PolarsError):
        todo = "make it again: unharm analyze STUDY"
        raise UserError("this table was made by another version", str(path), todo) from None
    missing = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in written]
    return frame.with_columns(missing).select(list(schema))


def _make_tables(
    connection: duckdb.DuckDBPyConnection, run: Run, files: Sequence[ShardFile], folder: Path
) -> None:
    """Make the small tables and the views over the files."""
    subjects = [
        (
            str(f.path), f.subject.arm, f.subject.profile_name, f.subject.strategy, f.subject.seed,
            f.benchmark, f.scorer,
        )
        for f in files
    ]  # fmt: skip
    columns = ["file", "arm", "profile", "strategy", "seed", "benchmark", "scorer"]
    schema = dict.fromkeys(columns, pl.String) | {"seed": pl.Int64}
    put_table(connection, "files", pl.DataFrame(subjects, schema=schema, orient="row"), folder)
    texts = [
        (name, number, p.id, p.category, p.text)
        for name, chosen in run.plan.prompts.items()
        for number, p in enumerate(chosen.prompts)
    ]
    names = dict.fromkeys(("benchmark", "number", "prompt_id", "category", "text"), pl.String)
    put_table(
        connection,
        "prompts",
        pl.DataFrame(texts, schema=names | {"number": pl.Int64}, orient="row"),
        folder,
    )
    importances = [(p.name, p.source, *p.importances) for p in run.plan.profiles]
    kinds = {"profile": pl.String, "source": pl.String, **dict.fromkeys(VALUES, pl.Float64)}
    put_table(connection, "profiles", pl.DataFrame(importances, schema=kinds, orient="row"), folder)
    for name, schema in SCHEMAS.items():
        path = run.store.root / "findings" / f"{name}.csv"
        if path.is_file():
            put_table(connection, name, _read_findings(path, schema), folder)
    completions = [str(f.path) for f in files if not f.scorer]
    _make_view(connection, "completions", completions, COMPLETIONS, "")
    scores = [str(f.path) for f in files if f.scorer]
    _make_view(connection, "scores", scores, SCORES, "files.scorer, ")


def put_table(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame, folder: Path) -> None:
    """Copy a polars table into DuckDB, by a Parquet file: without pyarrow there is no shorter way."""
    file = folder / "table.parquet"
    frame.write_parquet(file)
    connection.execute(f'create table "{name}" as select * from read_parquet({_text(str(file))})')
    file.unlink()


def _make_view(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    files: Sequence[str],
    schema: dict[str, Any],
    more: str,
) -> None:
    """Make the view over the files of one kind; one without rows where there is no file."""
    columns = ", ".join(f"data.{column}" for column in schema)
    subject = f"files.arm, files.profile, files.strategy, files.seed, files.benchmark, {more}"
    if files:
        listed = ", ".join(map(_text, files))
        data = f"read_parquet([{listed}], filename = 'file')"
    else:
        empty = ", ".join(f"null::{TYPES.get(kind, 'DOUBLE[]')} as {c}" for c, kind in schema.items())
        data = f"(select ''::varchar as file, {empty} where false)"
    connection.execute(
        f"create view {name} as select {subject}{columns} from {data} as data join files using (file)"
    )


def _text(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
