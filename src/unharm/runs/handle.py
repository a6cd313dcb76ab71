"""A run folder as Python code reads it: tables, completions, scores, one prompt across all arms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from unharm.analysis.schemas import SCHEMAS
from unharm.core.errors import UserError, nearest
from unharm.core.records import Prompt
from unharm.runs.context import Run
from unharm.runs.keys import Shard
from unharm.runs.plan import Plan
from unharm.runs.reopen import stored_study
from unharm.runs.shards import all_shards
from unharm.runs.status import RunStatus, status
from unharm.runs.views import open_views
from unharm.store.store import NotDone, Store
from unharm.store.tables import read_csv
from unharm.study.check import parse_study
from unharm.study.spec import Study

SUBJECT = ("arm", "profile", "strategy", "seed")
"""The columns that name a subject. `profile` is empty for an arm without profiles, `seed` null where the
study has no `seeds` or does not train the arm."""


@dataclass(frozen=True)
class RunHandle:
    """A run to read from. Nothing is written, and what is not made yet is left out.

    Attributes:
        folder: The run folder; of a run on object storage its mirror on this machine.
        study: The study that made it.
    """

    folder: Path
    study: Study

    @property
    def tables(self) -> list[str]:
        """The names of the tables that `table` gives."""
        return list(SCHEMAS)

    def table(self, name: str) -> pl.DataFrame:
        """A table of the findings.

        Args:
            name: One of `tables`, such as `arms` or `comparisons`.

        Raises:
            UserError: There is no table of this name, or the findings are not made yet.
        """
        if name not in SCHEMAS:
            raise UserError(f"no table {name!r}", str(self.folder), nearest(name, tuple(SCHEMAS)))
        path = self.folder / "findings" / f"{name}.csv"
        if not path.is_file():
            raise UserError("this table is not made yet", str(path), "make it: unharm analyze STUDY")
        try:
            return read_csv(path, SCHEMAS[name])
        except pl.exceptions.PolarsError:
            raise UserError(
                "this table is from another version of unharm",
                str(path),
                "make it again: unharm analyze STUDY",
            ) from None

    def completions(
        self,
        benchmark: str | None = None,
        arm: str | None = None,
        profile: str | None = None,
        strategy: str | None = None,
        seed: int | None = None,
    ) -> pl.LazyFrame:
        """The completions of some or all subjects, read lazily.

        Columns: `arm`, `profile`, `strategy`, `seed`, `benchmark`, then those of `core.records.Completion`.
        """
        shards = self._shards(benchmark, arm, profile, strategy, seed)
        frames = [_labelled(s, self._run.store.scan(s.completions)) for s in shards]
        return pl.concat(frames) if frames else _empty()

    def scores(
        self,
        benchmark: str | None = None,
        arm: str | None = None,
        profile: str | None = None,
        strategy: str | None = None,
        scorer: str | None = None,
        seed: int | None = None,
    ) -> pl.LazyFrame:
        """The scores of some or all subjects by some or all scorers, read lazily.

        Columns: `arm`, `profile`, `strategy`, `seed`, `benchmark`, `scorer`, then those of
        `core.records.Score`, prompt_id, sample, tokens, and the coherence `flag`. `value` is null where
        `status` is not `scored`.
        """
        frames = [
            _labelled(shard, self._run.store.scan(artefact)).with_columns(scorer=pl.lit(name))
            for shard in self._shards(benchmark, arm, profile, strategy, seed)
            for name, artefact in shard.scored.items()
            if scorer in (None, name) and self._run.store.done(artefact)
        ]
        return pl.concat(frames) if frames else _empty()

    def sql(self, query: str) -> pl.DataFrame:
        """Run one SELECT statement over the run: see `runs.views` for its views and tables.

        Args:
            query: The statement, in the dialect of DuckDB.

        Raises:
            UserError: DuckDB is not installed (extra `view`), or the statement is wrong.
        """
        with open_views(self.folder) as views:
            return views.query(query)

    def prompts(self, benchmark: str) -> list[Prompt]:
        """The prompts of a benchmark, in their order. Raises `UserError` where the study has none of this
        name."""
        if benchmark not in self._run.plan.prompts:
            known = tuple(self._run.plan.prompts)
            raise UserError(
                f"no benchmark {benchmark!r} in this run", str(self.folder), nearest(benchmark, known)
            )
        return self._run.plan.prompts[benchmark].prompts

    def prompt(self, prompt_id: str, benchmark: str | None = None) -> pl.DataFrame:
        """What every subject answered to one prompt, with all scores side by side.

        Args:
            prompt_id: The prompt's id.
            benchmark: Where ids of several benchmarks are alike; otherwise it is found by the id.

        Returns:
            One row per subject and sample: `arm`, `profile`, `strategy`, `seed`, `sample`, `text`,
            `status`, and a column for each scorer with its value (null where unscored).

        Raises:
            UserError: No prompt of the run has this id.
        """
        name = benchmark or self._benchmark_of(prompt_id)
        chosen = self.completions(name).filter(pl.col("prompt_id") == prompt_id)
        rows = chosen.select(*SUBJECT, "sample", "text", "status", "completion_id").collect()
        scores = self.scores(name).filter(pl.col("prompt_id") == prompt_id)
        for scorer in self.study.benchmarks.chosen()[name].scorers:
            by_id = scores.filter(pl.col("scorer") == scorer).select(
                "completion_id", pl.col("value").alias(scorer)
            )
            rows = rows.join(by_id.collect(), on="completion_id", how="left", maintain_order="left")
        return rows.drop("completion_id")

    def prompt_text(self, prompt_id: str, benchmark: str | None = None) -> str:
        """The text of a prompt as its benchmark has it. Raises `UserError` where no prompt has this id."""
        name = benchmark or self._benchmark_of(prompt_id)
        for prompt in self.prompts(name):
            if prompt.id == prompt_id:
                return prompt.text
        raise UserError(f"no prompt {prompt_id!r} in {name}", str(self.folder), "see 'unharm show RUN'")

    def status(self) -> RunStatus:
        """Where the run stands."""
        return status(str(self.folder))

    @property
    def report(self) -> Path:
        """The path of the report."""
        return self.folder / "report.html"

    @cached_property
    def _run(self) -> Run:
        run = Run(self.study, Store.open(self.folder), Plan(self.study))
        run.store.refresh()
        return run

    def _shards(
        self,
        benchmark: str | None,
        arm: str | None,
        profile: str | None,
        strategy: str | None,
        seed: int | None,
    ) -> list[Shard]:
        if benchmark is not None:
            self.prompts(benchmark)
        try:
            every = all_shards(self._run)
        except NotDone:
            raise UserError(
                "the adapters of this run are not all made yet", str(self.folder), "go on: unharm run STUDY"
            ) from None
        return [
            s
            for s in every
            if benchmark in (None, s.benchmark)
            and arm in (None, s.subject.arm)
            and profile in (None, s.subject.profile_name)
            and strategy in (None, s.subject.strategy)
            and seed in (None, s.subject.seed)
            and self._run.store.done(s.completions)
        ]

    def _benchmark_of(self, prompt_id: str) -> str:
        for name, prompts in self._run.plan.prompts.items():
            if any(p.id == prompt_id for p in prompts.prompts):
                return name
        raise UserError(f"no prompt {prompt_id!r} in this run", str(self.folder), "see 'unharm show RUN'")


def open_handle(folder: str | Path) -> RunHandle:
    """Open a run folder for reading, also while the run goes on. Raises `UserError` where it is no run."""
    path = Path(folder)
    study = parse_study(stored_study(path))
    return RunHandle(Store.open(path).root, study)


def _labelled(shard: Shard, frame: pl.LazyFrame) -> pl.LazyFrame:
    subject = shard.subject
    return frame.select(
        pl.lit(subject.arm).alias("arm"),
        pl.lit(subject.profile_name).alias("profile"),
        pl.lit(subject.strategy).alias("strategy"),
        pl.lit(subject.seed, pl.Int64).alias("seed"),
        pl.lit(shard.benchmark).alias("benchmark"),
        pl.all(),
    )


def _empty() -> pl.LazyFrame:
    columns = (*SUBJECT, "benchmark", "scorer", "completion_id", "prompt_id", "text", "status")
    schema: dict[str, type[pl.DataType]] = dict.fromkeys(columns, pl.String)
    return pl.LazyFrame(schema=schema | {"seed": pl.Int64, "sample": pl.Int64, "value": pl.Float64})
