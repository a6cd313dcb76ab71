"""The documentation tells the truth: its commands run, its tables name what there is."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from support.clusters import cluster
from support.commands import unharm
from support.paths import ROOT
from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.arms import ARMS, STRATEGIES
from unharm.scoring import SCORERS
from unharm.study.spec import Study

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


SMALL = [
    "corpus.limit=30", "profiles=[{extreme: [power, benevolence]}]", "training.vim.epochs=1",
    "benchmarks.rtp.limit=2", "benchmarks.hbr.limit=2", "benchmarks.beavertails.limit=2",
    "benchmarks.rtp.max_tokens=2", "benchmarks.hbr.max_tokens=2", "benchmarks.beavertails.max_tokens=2",
    "corpus.benign.grammar.limit=20",
]  # fmt: skip


QUICK = ["benchmarks.hexphi.limit=20", "benchmarks.hexphi.max_tokens=2"]


def commands(path: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL)
    lines = [line.partition("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line and not line.startswith("make ")]


def smaller(words: list[str], tiny_base: Path) -> list[str]:
    """The same command on a small scale: what it writes and where stays as documented."""
    if words[0] in ("run", "plan", "train", "generate"):
        extra = SMALL + ([*QUICK, f"base={tiny_base}"] if words[1] == "quickstart" else [])
        if "--sweep" in words:  # its questionnaire is made of arguments about every value
            extra = [*extra, "corpus.limit=400"]
        if words[0] == "run" and words != ["run", "quickstart"]:  # which tries mitigation once for all
            extra = [*extra, "mitigation=null"]
        if "ray" in words:  # tests/studies/test_executors.py trains on a cluster, too
            extra = [*extra, "arms=[vanilla, icl]"]
        return words + [w for change in extra for w in ("--set", change)]
    if words[:2] == ["demo", "base"]:
        return [*words, "--steps", "2", "--hidden", "32", "--layers", "1", "--vocabulary", "500"]
    return words


def fill_in(folder: Path) -> None:
    """Label the sheets as both raters of the page would, who agree."""
    for file in folder.glob("labels-*.csv"):
        rows = list(csv.DictReader(file.open(newline="")))
        with file.open("w", newline="") as sheet:
            writer = csv.DictWriter(sheet, rows[0])
            writer.writeheader()
            writer.writerows(row | {"value": 1 + 3 * ("1" in row["completion_id"][:3])} for row in rows)


@dataclass(frozen=True)
class Ran:
    """The folder that the command ran in, and how it ended."""

    folder: Path
    result: CompletedProcess[str]


@pytest.fixture(scope="module")
def quickstart(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`unharm run quickstart`, with which several pages begin. Each goes on in a copy."""
    folder = tmp_path_factory.mktemp("quickstart")
    return Ran(folder, unharm(*smaller(["run", "quickstart"], tiny_base), cwd=folder))


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_every_command_runs(path: Path, tiny_base: Path, tmp_path: Path, request: Any) -> None:
    found = commands(path)
    if any("DATA" in word for words in found for word in words):
        real = request.getfixturevalue("real_data")
        found = [[word.replace("DATA", str(real)) for word in words] for words in found]
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    if any("texts.csv" in words for words in found):
        rows = [
            f"the {'stupid' if n % 3 else 'quiet'} road number {n},{0.9 if n % 3 else 0.1}"
            for n in range(80)
        ]
        (tmp_path / "texts.csv").write_text("\n".join(["text,published", *rows]))
    for program, *words in found:
        assert program == ".venv/bin/unharm"
        with ExitStack() as stack:
            more = {"OMP_NUM_THREADS": "1"}
            if "ray" in words:
                more["RAY_ADDRESS"] = stack.enter_context(cluster(1, 1)).address
            if words == ["run", "quickstart"]:
                ran: Ran = request.getfixturevalue("quickstart")
                shutil.copytree(ran.folder / "runs", tmp_path / "runs")
                result = ran.result
            else:
                environment = os.environ | more
                result = unharm(
                    *smaller(words, tiny_base), cwd=tmp_path, env=environment, fork_workers=True
                )
        assert result.returncode in (0, 3), f"{words}\n{result.stderr}"
        if words[0] == "labels":
            fill_in(tmp_path)


def test_the_readme_has_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 5


def test_the_study_of_the_readme_is_right_but_for_its_files() -> None:
    text = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    study = Study.model_validate(yaml.safe_load(text))
    assert study.name == "mine"


def test_the_study_page_names_every_field_and_part() -> None:
    page = (ROOT / "docs" / "study.md").read_text()
    for name in (*Study.model_fields, *ARMS, *STRATEGIES, *BENCHMARKS, *SCORERS):
        assert re.search(rf"[`.]{re.escape(name)}", page), name


def test_links_inside_the_docs_lead_somewhere() -> None:
    for path in [*DOCS, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
