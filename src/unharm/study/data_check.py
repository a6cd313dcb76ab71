"""The data sets of a study, read whole and compared with what is published."""

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

COPIES: dict[str, str] = {
    "8c5116e61b916b22557f47e5d05cedea02b9b0fa4791e15241d4eef5bd5af7fd": "the paper's toxic prompts",
    "6f843d64b1874267c8fb42d67cf85533cd5847d935533ff993b5ab1345fe5385": "the paper's arguments",
    "db8c78516b73f90e096c6f5822f2e2a17d4832b217031605dd844bb17fc0db13": "the paper's Grammar set",
}
"""What files with these SHA-256 are. A set without an entry has no published file to compare with."""


@dataclass(frozen=True)
class Check:
    """What was found of one data set of a study. `state` is `whole`, `differs` (another number of
    items than published), `unknown` (no published number is at hand), `missing` or `unreadable`."""

    name: str
    file: str
    state: str
    items: int | None = None
    sha256: str = ""
    note: str = ""


def check_data(study: Study) -> list[Check]:
    """Reads every data set of a study whole, without its limits, and compares it with what is published."""
    return [_check(name, path, count) for name, path, count in _files(study)]


def _files(study: Study) -> list[tuple[str, Path, Callable[[], int]]]:
    """The data sets of a study: name, file, and how to count its items."""
    from unharm.corpus.benign import load_benign
    from unharm.corpus.valueeval import read_arguments
    from unharm.profiles.survey import load_items, read_survey
    from unharm.prompting.pack import load_pack

    found: list[tuple[str, Path, Callable[[], int]]] = []

    def add(name: str, file: str, count: Callable[[Path], int]) -> None:
        path = study.data_file(file)
        found.append((name, path, lambda: count(path)))

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
        if BENCHMARKS[name].data_set is None:  # nothing is published to compare it with
            continue
        add(name, spec.file, partial(prompts, name, spec.variant))
    return found


def _check(name: str, path: Path, count: Callable[[], int]) -> Check:
    data = DATA_SETS[name]
    if not path.exists():
        return Check(name, str(path), "missing", note=f"{data.where}: {data.todo}")
    try:
        items = count()
    except UserError as error:
        return Check(name, str(path), "unreadable", note=str(error.problems[0]))
    state = "whole" if items in data.sizes else "differs" if data.sizes else "unknown"
    published = " or ".join(f"{size:,}" for size in data.sizes)
    checksum = sha256_of(path)
    note = f"published: {published}" if state == "differs" else COPIES.get(checksum, "")
    return Check(name, str(path), state, items, checksum, note)
