"""Every bad input of the tables is refused: exit code 2, one message with the right words, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hostile.bad_files import FIELDS, FILES, ITEMS, SURVEY
from hostile.bad_specs import SETTINGS, SPECS, STUDY, WHOLE
from hostile.harness import Ended, files_of, no_work, study_text, unharm

REFUSED = 2


def check(ended: Ended, words: tuple[str, ...]) -> None:
    """The command was refused in words: no traceback, no control character, and the words of the row."""
    text = ended.err
    assert "Traceback" not in text, (
        text.strip().splitlines()[-1][:300] + " AT " + " ".join(text.strip().splitlines()[-3:-1])
    )
    assert ended.code == REFUSED, f"code {ended.code}: {text[-300:]!r}"
    for word in words:
        assert word.lower() in text.lower(), repr(text[:400])
    assert all(c.isprintable() or c == "\n" for c in text), repr(text[:400])
    assert len(text) < 20_000
    assert ended.out == ""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Path:
    """A folder with what the rows of the table lean on."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("rtp.csv", "arguments.tsv"):
        shutil.copy(toy_data / name, folder / name)
    (folder / "items.yaml").write_text(ITEMS)
    (folder / "survey.csv").write_text(f"{SURVEY}\n{','.join('1234561234')}\n")
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a row, with nothing in it but what the rows lean on."""
    for file in prepared.iterdir():
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(here: Path, text: str, words: tuple[str, ...], *options: str) -> None:
    (here / "study.yaml").write_text(text, encoding="utf-8")
    before = files_of(here)
    with no_work():
        ended = unharm("run", "study.yaml", *options)
    check(ended, words)
    assert files_of(here) == before
    assert not [p for p in here.iterdir() if p.is_dir()]


def named(rows: list[tuple[str, str, tuple[str, ...]]]) -> list[object]:
    return [pytest.param(text, words, id=f"{n}-{mistake}") for n, (text, mistake, words) in enumerate(rows)]


@pytest.mark.parametrize(("lines", "words"), named(SPECS))
def test_a_bad_spec(here: Path, lines: str, words: tuple[str, ...]) -> None:
    refuse(here, study_text(lines), words)


@pytest.mark.parametrize(("text", "words"), named(WHOLE))
def test_a_bad_document(here: Path, text: str, words: tuple[str, ...]) -> None:
    refuse(here, text, words)


@pytest.mark.parametrize(("assignment", "words"), named(SETTINGS))
def test_a_bad_setting(here: Path, assignment: str, words: tuple[str, ...]) -> None:
    refuse(here, study_text(""), words, "--set", assignment)


@pytest.mark.parametrize("row", [pytest.param(r, id=f"{n}-{r[0]}-{r[2]}") for n, r in enumerate(FILES)])
def test_a_bad_file(here: Path, row: tuple[str, object, str, tuple[str, ...]]) -> None:
    name, content, _, words = row
    kind, dot, ending = name.partition(".")
    data = content() if callable(content) else content
    assert isinstance(data, str | bytes)
    file = f"bad.{ending}" if dot else {"pack": "bad.yaml", "rubric": "bad.yaml"}.get(kind, "bad.csv")
    raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    (here / file).write_bytes(raw)
    refuse(here, study_text(FIELDS[kind].replace("FILE", file)), words)


def test_the_tables_are_large_enough_and_their_study_is_right(here: Path) -> None:
    """A study of the table without a mistake gets as far as work; so the rows are refused for theirs."""
    assert len(SPECS) + len(WHOLE) + len(SETTINGS) + len(FILES) >= 250
    (here / "study.yaml").write_text("\n".join(STUDY.values()))
    with no_work():
        ended = unharm("run", "study.yaml")
    assert "work began" in ended.err
