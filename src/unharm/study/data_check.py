"""Compare the data sets of a study with their published versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.errors import UserError
from unharm.core.hashing import sha256_of
from unharm.corpus.data_sets import DATA_SETS
from unharm.study.spec import Study

KNOWN_FILES: dict[str, str] = {
    "8c5116e61b916b22557f47e5d05cedea02b9b0fa4791e15241d4eef5bd5af7fd": "the paper's toxic prompts",
    "6f843d64b1874267c8fb42d67cf85533cd5847d935533ff993b5ab1345fe5385": "the paper's arguments",
    "db8c78516b73f90e096c6f5822f2e2a17d4832b217031605dd844bb17fc0db13": "the paper's Grammar set",
}
"""Known files by their SHA-256."""


@dataclass(frozen=True)
class DataCheck:
    """Result of checking one data set.

    `state` is `whole`, `differs` (its item count is not the published one), `unknown` (no published
    count is known), `missing` or `unreadable`.
    """

    name: str
    file: str
    state: str
    items: int | None = None
    sha256: str = ""
    note: str = ""


def check_data(study: Study) -> list[DataCheck]:
    """Read every data set of a study, ignoring limits, and compare it with its published size."""
    return [_check(name, path, count) for name, path, count in _files(study)]


def _files(study: Study) -> list[tuple[str, Path, Callable[[], int]]]:
    """Return name, file and item counter of every data set of a study."""
    from unharm.corpus.benign import load_benign
    from unharm.corpus.valueeval import read_arguments
    from unharm.profiles.survey import load_items, read_survey
    from unharm.prompting.pack import load_pack

    files: list[tuple[str, Path, Callable[[], int]]] = []

    def add(name: str, file: str, count: Callable[[Path], int]) -> None:
        path = study.data_file(file)
        files.append((name, path, lambda: count(path)))

    def benign_rows(name: str, path: Path) -> int:
        return len(load_benign(name, path, load_pack(study.prompting.pack), None, 0).examples)

    def respondents(items: str, path: Path) -> int:
        return len(read_survey(path, load_items(items)).importances)

    def prompts(name: str, variant: str | None, path: Path) -> int:
        return len(BENCHMARKS[name].read(path, variant)[0])

    for source in study.profiles:
        if source.survey:
            add("survey", source.survey, partial(respondents, source.items))
    if study.corpus:
        add("arguments", study.corpus.arguments, lambda path: len(read_arguments(path)))
        for name, benign in study.corpus.benign.items():
            if benign.file:
                add(name, benign.file, partial(benign_rows, name))
    for name, spec in study.benchmarks.chosen().items():
        if BENCHMARKS[name].data_set is None:  # not a published data set
            continue
        add(name, spec.file, partial(prompts, name, spec.variant))
    return files


def _check(name: str, path: Path, count: Callable[[], int]) -> DataCheck:
    """DataCheck one data set."""
    data = DATA_SETS[name]
    if not path.exists():
        return DataCheck(name, str(path), "missing", note=f"{data.where}: {data.todo}")
    try:
        items = count()
    except UserError as error:
        return DataCheck(name, str(path), "unreadable", note=str(error.problems[0]))
    state = "whole" if items in data.sizes else "differs" if data.sizes else "unknown"
    published = " or ".join(f"{size:,}" for size in data.sizes)
    checksum = sha256_of(path)
    note = f"published: {published}" if state == "differs" else KNOWN_FILES.get(checksum, "")
    return DataCheck(name, str(path), state, items, checksum, note)
