"""Sheets of completions for people to label: drawn, drawn further, and those on which raters disagree."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from unharm.analysis.human_labels import (
    ADJUDICATED,
    SCALES,
    agreement_of_two,
    disagreements,
    read_labels,
    settled,
)
from unharm.analysis.label_design import DRAWN_SCHEMA, HARMFUL, HARMLESS, UNSCORED, draw
from unharm.analysis.label_tables import truth_of
from unharm.analysis.verdicts import LINEAR, NO_COMPLETION, levels_of
from unharm.core.draws import rank
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.delimited import guarded
from unharm.core.files.disk import write_whole
from unharm.core.printable import printable
from unharm.runs.context import Run
from unharm.runs.keys import Shard
from unharm.runs.label_draws import check_ids, draw_file, stored_draw
from unharm.runs.reopen import open_run
from unharm.runs.shards import all_shards

COLUMNS = ("completion_id", "prompt", "answer", "rater", "value")


@dataclass(frozen=True)
class Sheets:
    """The sheets that were written, how many completions each has, and how many of them by verdict."""

    files: tuple[Path, ...]
    completions: int
    verdicts: dict[str, int]


def write_sheets(
    folder: Path,
    benchmark: str,
    sample: int,
    out: Path,
    raters: Sequence[str] = (),
    labels: Sequence[Path] = (),
) -> Sheets:
    """Draw completions of a benchmark for people to label, and write a sheet per rater.

    The draw is by arm, verdict and category (`label_design`), with the study's seed. It is stored in the
    run folder with its inclusion probabilities. Sheets show neither arm nor verdict, and each rater's has
    an order of its own. A later draw adds to an earlier one.

    Args:
        folder: The run folder.
        benchmark: The benchmark.
        sample: Number of completions to draw.
        out: The file to write; with several raters the name gets the rater's.
        raters: Names of the raters.
        labels: Label files so far: the draw goes where further labels help most.

    Raises:
        UserError: The run has no such benchmark or no completion left to draw, a file exists already, two
            raters have the same name, the labels are of another study, or an earlier draw rests on the
            verdicts of another scorer.
    """
    run = open_run(folder)
    _check_benchmark(run, benchmark)
    files = _sheet_files(out, raters)
    shards = [s for s in all_shards(run) if s.benchmark == benchmark]
    with run.store.lock():
        earlier = stored_draw(run.store, benchmark)
        frame = _completions(run, shards, benchmark)
        name, version = _scorer(run, benchmark)
        if earlier is not None and set(earlier.select("scorer", "scorer_version").iter_rows()) != {
            (name, version)
        }:
            raise UserError(
                f"the earlier draw went by the verdicts of {earlier['scorer'][0]} "
                f"{earlier['scorer_version'][0]}, now the scorer is {name} {version}",
                str(run.store.root / draw_file(benchmark)),
                f"go back to it for the draw: unharm rescore {folder} --scorer {earlier['scorer'][0]}",
            )
        truth = _truth_so_far(run, benchmark, labels, shards)
        drawn = draw(frame, sample, run.study.seed, earlier, truth)
        new = drawn.filter("new")
        if not new.height:
            raise UserError(f"every completion of {benchmark!r} is drawn already", str(folder))
        texts = _texts(run, shards, benchmark, new["completion_id"])
        for file, rater in files:
            _write(file, texts, rater, run.study.seed)
        stored = drawn.with_columns(scorer=pl.lit(name), scorer_version=pl.lit(version))
        run.store.write_plain(draw_file(benchmark), stored.select(list(DRAWN_SCHEMA)).write_csv())
    counts = dict(new.group_by("verdict", maintain_order=True).len().iter_rows())
    return Sheets(tuple(file for file, _ in files), new.height, counts)


def write_disagreements(
    folder: Path, benchmark: str, labels: Sequence[Path], out: Path
) -> tuple[int, int, int]:
    """Write a sheet of the completions on which raters disagree, for adjudication.

    Returns:
        How many completions several raters labelled, on how many of those they agree, and how many the
        sheet has. No sheet is written where it would have none.
    """
    run = open_run(folder)
    _check_benchmark(run, benchmark)
    measure = run.plan.measure(benchmark)
    if not labels:
        raise UserError("no label file is given", "--labels", "name one per rater, or one with both")
    files = _sheet_files(out, (ADJUDICATED,))
    given = read_labels(labels, measure)
    shards = [s for s in all_shards(run) if s.benchmark == benchmark]
    check_ids(given, run.store, benchmark, shards, ", ".join(map(str, labels)))
    several, agreed = agreement_of_two(given, measure)
    unsettled = disagreements(given, measure)
    if unsettled:
        texts = _texts(run, shards, benchmark, pl.Series("completion_id", unsettled, pl.String))
        _write(files[0][0], texts, ADJUDICATED, run.study.seed)
    return several, agreed, len(unsettled)


def _check_benchmark(run: Run, benchmark: str) -> None:
    chosen = tuple(name for name in run.study.benchmarks.chosen() if run.plan.measure(name) in SCALES)
    if benchmark not in chosen:
        raise UserError(
            f"this run has no benchmark {benchmark!r}", "--benchmark", nearest(benchmark, chosen)
        )


def _sheet_files(out: Path, raters: Sequence[str]) -> list[tuple[Path, str]]:
    """The file of each rater. Raise `UserError` if one exists, or two raters have the same name."""
    problems = [
        Problem(f"two raters are named {name!r}", "--rater", "give each a name of its own")
        for name in dict.fromkeys(raters)
        if list(raters).count(name) > 1
    ]
    if ADJUDICATED in raters[1:] or (ADJUDICATED in raters and len(raters) > 1):
        problems.append(Problem(f"{ADJUDICATED!r} is the name of what settles disagreements", "--rater"))
    for name in raters:
        if not name.strip() or "/" in name or "\\" in name or name.startswith("."):
            problems.append(
                Problem(f"{name!r} is no name for a rater", "--rater", "it becomes part of a file")
            )
    several = len(raters) > 1
    files = [(out.with_stem(f"{out.stem}-{name}") if several else out, name) for name in raters or ("",)]
    for file, _ in files:
        if file.exists():
            todo = "its labels would be lost; choose another"
            problems.append(Problem("this file exists already", str(file), todo))
    raise_all(problems)
    return files


def _scorer(run: Run, benchmark: str) -> tuple[str, str]:
    name = run.study.benchmarks.chosen()[benchmark].scorer
    return name, run.plan.scorers[name].version


def _completions(run: Run, shards: Sequence[Shard], benchmark: str) -> pl.DataFrame:
    """Every completion with its category, arm, strategy and verdict; those never made are left out."""
    measure = run.plan.measure(benchmark)
    categories = {p.id: p.category for p in run.plan.prompts[benchmark].prompts}
    frames = []
    for shard in shards:
        if not run.store.done(shard.scores):
            raise UserError(
                f"{benchmark!r} is not scored yet", str(run.store.root), "score it: unharm score STUDY"
            )
        scores = (
            run.store.scan(shard.scores).select("completion_id", "prompt_id", "value", "reason").collect()
        )
        scores = scores.filter(~pl.col("reason").fill_null("").str.starts_with(NO_COMPLETION))
        values = scores["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        frames.append(
            scores.select(
                "completion_id",
                pl.col("prompt_id").replace_strict(categories, default="").alias("category"),
                pl.lit(shard.subject.arm).alias("arm"),
                pl.lit(shard.subject.strategy).alias("strategy"),
                pl.Series("verdict", _verdicts(measure, values), pl.String),
            )
        )
    return pl.concat(frames)


def _verdicts(measure: str, values: np.ndarray) -> list[str]:
    """Harmless, harmful or unscored: of two levels the upper is harmful, of five all but the first."""
    scored = np.isfinite(values)
    harmful = levels_of(measure, values) >= 1
    return [
        HARMFUL if h and s else HARMLESS if s else UNSCORED for h, s in zip(harmful, scored, strict=True)
    ]


def _truth_so_far(
    run: Run, benchmark: str, labels: Sequence[Path], shards: list[Shard]
) -> dict[str, float] | None:
    """Labels so far by completion, from 0 to 1."""
    if not labels:
        return None
    measure = run.plan.measure(benchmark)
    given = read_labels(labels, measure)
    where = ", ".join(map(str, labels))
    check_ids(given, run.store, benchmark, shards, where)
    truth = settled(given, measure, where, "settle them first with --disagreements")
    values = truth_of(measure, truth["truth"].to_numpy(), LINEAR[measure][0].of_level)
    return dict(zip(truth["completion_id"], map(float, values), strict=True))


def _texts(
    run: Run, shards: Sequence[Shard], benchmark: str, wanted: pl.Series
) -> list[tuple[str, str, str]]:
    """Id, prompt and answer of some completions."""
    prompts = {p.id: p.text for p in run.plan.prompts[benchmark].prompts}
    found: list[tuple[str, str, str]] = []
    for shard in shards:
        rows = run.store.scan(shard.completions).select("completion_id", "prompt_id", "text")
        chosen = rows.filter(pl.col("completion_id").is_in(wanted.implode())).collect()
        found += [(identity, prompts[prompt], text) for identity, prompt, text in chosen.iter_rows()]
    return found


def _write(out: Path, texts: Sequence[tuple[str, str, str]], rater: str, seed: int) -> None:
    """Write a sheet in an order of the rater's own."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows(
        [identity, guarded(printable(prompt)), guarded(printable(answer)), rater, ""]
        for identity, prompt, answer in sorted(texts, key=lambda row: rank(seed, f"{rater}/{row[0]}"))
    )
    write_whole(out, buffer.getvalue().encode(), "the sheet", private=True)
