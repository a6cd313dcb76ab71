"""The data sets that studies use: where each is obtained, under which licence, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unharm.benchmarks.load import TABLE
from unharm.errors import UserError
from unharm.naming import sha256_of
from unharm.study import Study


@dataclass(frozen=True)
class DataSet:
    """A data set: `field` is where a study names its file; `sizes` are the numbers of items in its
    published forms; `todo` is what to do to get it."""

    title: str
    field: str
    where: str
    licence: str
    sizes: tuple[int, ...] = ()
    todo: str = "download it and name the file in the study"


DATA_SETS: dict[str, DataSet] = {
    "survey": DataSet(
        "European Social Survey", "profiles.survey", "its data portal, human values module",
        "non-commercial, see its page", (), "register there and download the human values items as CSV",
    ),
    "arguments": DataSet(
        "Touché23-ValueEval", "corpus.arguments", "Zenodo, record of the Touché 2023 task", "CC BY 4.0",
        (7374,), "download the arguments and labels; a folder of the original release is read as it is",
    ),
    "alpaca": DataSet("Alpaca", "corpus.benign.alpaca", "tatsu-lab/alpaca on the hub", "CC BY-NC 4.0"),
    "dolly": DataSet(
        "Dolly", "corpus.benign.dolly", "databricks/databricks-dolly-15k on the hub", "CC BY-SA 3.0"
    ),
    "grammar": DataSet(
        "Grammar", "corpus.benign.grammar", "JFLEG and C4_200M, see the paper", "see its sources", (12500,)
    ),
    "samsum": DataSet("Samsum", "corpus.benign.samsum", "Samsung/samsum on the hub", "CC BY-NC-ND 4.0"),
    "rtp": DataSet(
        "RealToxicityPrompts", "benchmarks.rtp", "allenai/real-toxicity-prompts on the hub", "Apache-2.0",
        (21744, 99442),
    ),
    "hbr": DataSet(
        "HolisticBiasR", "benchmarks.hbr", "facebookresearch/ResponsibleNLP on GitHub", "MIT", (17700,),
        "make the prompts with its generator; or put HolisticBias v1.1's descriptors.json, nouns.json and "
        "standalone_noun_phrases.json into a folder, with the regard templates in templates.txt",
    ),
    "hexphi": DataSet(
        "HEx-PHI", "benchmarks.hexphi", "LLM-Tuning-Safety/HEx-PHI on the hub, gated", "see its page",
        (300, 330), "ask for access on its page, then put its category files into one folder",
    ),
    "beavertails": DataSet(
        "BeaverTails-Evaluation", "benchmarks.beavertails",
        "PKU-Alignment/BeaverTails-Evaluation on the hub", "CC BY-NC 4.0", (700,),
    ),
    "questionnaire": DataSet(
        "PVQ-40 or your own", "benchmarks.questionnaire", "from its author; a copyrighted instrument",
        "by permission", (40,), "ask its author for permission, or write a questionnaire of your own",
    ),
}  # fmt: skip
"""Sizes are those that our readers find in the published files: prompts, arguments, items of a
questionnaire, rows of a benign set without repeats; empty where nobody has counted."""


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
        return len(TABLE[name].read(path, variant)[0])

    for source in study.profiles:
        if source.survey:
            add("survey", source.survey, partial(respondents, source.items))
    if study.corpus:
        add("arguments", study.corpus.arguments, lambda path: len(read_arguments(path)))
        for name, benign in study.corpus.benign.items():
            if benign.file:
                add(name, benign.file, partial(benign_rows, name))
    for name, spec in study.benchmarks.chosen().items():
        if name == "harmless":  # questions of our own, or of the user's
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
