"""A hostile study through every verb, a browser and a terminal: nothing runs, nothing leaks."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from typer.main import get_command

import unharm
from hostile.browser import browser, page_of
from hostile.harness import Ended
from hostile.harness import unharm as command
from hostile.hostile_study import (
    CATEGORIES,
    CLEAR,
    FORMULAS,
    KEY,
    NAMES,
    RAW,
    VARIABLE,
    answer,
    leaks,
    leaks_in_folder,
    write_study,
)
from support.servers import Faulty, serving
from unharm.cli.app import app
from unharm.profiles.table import read_profiles
from unharm.runs.adapters import loss_curves
from unharm.runs.reopen import open_run

PROBES = 6
"""Requests that try the server out are answered."""


@dataclass(frozen=True)
class Hostile:
    """The run, and how its command ended."""

    home: Path
    study: Path
    folder: Path
    ended: Ended
    requests: int


@pytest.fixture(scope="module")
def hostile(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    home = tmp_path_factory.mktemp("hostile")
    with (
        mock.patch.dict(os.environ, {VARIABLE: KEY}),
        serving(Faulty(says=answer, key=KEY, reflects=True)) as server,
    ):
        server.plan = lambda prompt, attempt: (
            "500" if len(server.bodies) > PROBES and len(prompt) % 5 == 0 else "answer"
        )
        study = write_study(home, tiny_base, server.url)
        ended = command("run", str(study), "--keep")
        server.plan = lambda prompt, attempt: "answer"
        yield Hostile(home, study, home / "run", ended, len(server.bodies))


def cells(file: Path) -> set[str]:
    with file.open(encoding="utf-8", newline="") as rows:
        return {cell for row in csv.reader(rows) for cell in row}


# ---- what is stored ---------------------------------------------------------------------


def test_the_study_runs_and_its_hostile_answers_come_in(hostile: Hostile) -> None:
    assert hostile.ended.code in (0, 3), hostile.ended.err
    assert hostile.requests > PROBES + 20
    texts = pl.read_parquet(hostile.folder / "completions" / "**" / "*.parquet")["text"].to_list()
    assert any("[redacted]" in text and CLEAR in text for text in texts)


def test_the_key_is_in_no_byte_of_the_folder_and_in_no_output(hostile: Hostile) -> None:
    assert leaks_in_folder(hostile.home) == []
    assert leaks("output", (hostile.ended.out + hostile.ended.err).encode()) == []


def test_no_text_file_of_the_run_has_a_control_character(hostile: Hostile) -> None:
    binary = (".parquet", ".safetensors", ".sqlite", ".sqlite-wal", ".sqlite-shm")
    texts = [p for p in hostile.folder.rglob("*") if p.is_file() and p.suffix not in binary]
    assert len(texts) > 20
    for file in texts:
        assert b"\x1b" not in file.read_bytes(), file
        assert "\x1b" not in file.name


def test_no_table_of_a_run_has_a_formula(hostile: Hostile) -> None:
    files = sorted(hostile.folder.rglob("*.csv"))
    assert {"profiles.csv", "curves.csv", "subjects.csv", "bias.csv"} <= {file.name for file in files}
    for file in files:
        begins = {cell[0] for cell in cells(file) if re.match(r"[=@\t\r]|[+-](?![\d.]|$|inf|nan)", cell)}
        assert not begins, file
    assert {"'" + name for name in FORMULAS} <= cells(hostile.folder / "findings" / "subjects.csv")


def test_what_reads_the_tables_gives_the_names_back(hostile: Hostile) -> None:
    run = unharm.open_run(hostile.folder)
    assert set(run.table("subjects")["profile"].drop_nulls()) - {""} == set(NAMES)
    assert set(CATEGORIES) <= set(run.table("subjects")["category"])
    with open_run(hostile.folder) as again:
        assert set(loss_curves(again)["profile"].drop_nulls()) == set(NAMES)
    frame = run.completions(arm="vim-qa", profile="=1+1").collect()
    assert set(frame["profile"]) == {"=1+1"}
    again_read = read_profiles(hostile.folder / "profiles" / "profiles.csv")
    assert sorted(p.name for p in again_read) == sorted(NAMES)


def test_mitigation_finds_its_half_by_name(hostile: Hostile) -> None:
    half = json.loads((hostile.folder / "mitigation" / "study.json").read_text())["profiles"][0]["names"]
    assert set(half) < set(NAMES)
    second = unharm.open_run(hostile.folder / "mitigation").table("subjects")
    assert set(second["profile"].drop_nulls()) - {""} == set(half)


# ---- what a browser makes of the report ------------------------------------------------------


def test_nothing_runs_in_the_report(hostile: Hostile) -> None:
    page = hostile.folder / "report.html"
    with browser() as chromium:
        chromium.open(page_of(page))
        count = "document.querySelectorAll('details, button, summary, th, a[href], [title], svg').length"
        assert chromium.value(count) > 10
        chromium.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        for selector in ("summary", "button", "th", "a[href^='#']", "[data-chart] svg", "td"):
            for number in range(min(4, chromium.value(f"document.querySelectorAll({selector!r}).length"))):
                chromium.value(f"document.querySelectorAll({selector!r})[{number}].id ||= 'it{number}'")
                name = chromium.value(f"document.querySelectorAll({selector!r})[{number}].id")
                place = chromium.middle(f"[id={json.dumps(name)}]")
                chromium.move(*place, click=True)
        for _ in range(30):
            chromium.press("Tab")
            chromium.press("Enter")
        assert chromium.value("window.ran ?? 0") == 0
        text = chromium.value("document.body.textContent")
        assert NAMES[4] in text  # shown as it is
        assert NAMES[5] in text
        assert "=1+1" in text
        assert "'=1+1" not in text
        folder = page_of(hostile.folder)  # its tables are linked, and may be fetched by a click
        assert not [url for url in chromium.requests() if not url.startswith(f"{folder}/")]
        assert not chromium.dialogs()
        assert not chromium.errors()


# ---- every verb, on every kind of output ---------------------------------------------------


HEAVY = ("run", "mitigate", "rescore", "compare", "corpus audit")
"""Verbs that take more than half a second."""


def light(hostile: Hostile) -> dict[str, tuple[list[str], tuple[int, ...]]]:
    """The verbs that are tried on every kind of output; with `UNHARM_EVERY` set, that is all of them."""
    heavy = () if os.environ.get("UNHARM_EVERY") else HEAVY
    return {name: verb for name, verb in verbs(hostile).items() if name not in heavy}


def verbs(hostile: Hostile) -> dict[str, tuple[list[str], tuple[int, ...]]]:
    """Every verb with its arguments, and the exit codes that it may have."""
    study, run, home = str(hostile.study), str(hostile.folder), hostile.home
    return {
        "plan": ([study, "--power"], (0,)),
        "init": ([str(home / "made" / "=x.yaml"), "--demo"], (0, 2)),
        "status": ([run], (0, 3)),
        "train": ([study, "--into", run, "--export", str(home / "exported")], (0, 2, 3)),
        "generate": ([study, "--into", run], (0, 3)),
        "score": ([study, "--into", run], (0, 3)),
        "analyze": ([study, "--into", run], (0, 3)),
        "run": ([study, "--into", run], (0, 3)),
        "mitigate": ([run], (0, 3)),
        "report": ([run, "--latex"], (0,)),
        "show": ([run], (0,)),
        "view": ([run, "--sheet", str(home / "=absent.csv")], (2,)),
        "capability": ([run, "--task", "\x1b[31mabsent"], (2,)),
        "figure": ([run, "forest", "--out", str(home / "forest.svg"), "--force"], (0, 2)),
        "query": ([run, "select * from completions limit 5"], (0, 2)),
        "compare": ([run, run, "--markdown", str(home / "compared.md"), "--force"], (0, 3)),
        "push": ([run, "--out", str(home / "share")], (0, 2)),
        "export": ([run, "--inspect", str(home / "logs"), "--force"], (0, 2)),
        "rescore": ([run, "--also", "offline-harmfulness-topic"], (0, 2, 3)),
        "calibrate": (["offline-toxicity", "published", "--texts", str(home / "texts.csv"),
                       "--out", str(home / "map.json"), "--force"], (0, 2)),
        "labels": ([run, "--benchmark", "hexphi", "--out", str(home / "labels.csv")], (0, 2)),
        "pilot": ([study, "--set", f"output={run}", "--from", "offline-toxicity", "--to", "offline-tweets",
                   "--n", "100", "--out", str(home / "pilot.json")], (0, 2, 3)),
        "scorers test": (["offline-toxicity", "--study", study], (0,)),
        "doctor": ([str(home / "=absent"), "--out", str(home / "doctor.json")], (1, 2)),
        "profiles list": ([study], (0,)),
        "profiles make": ([study, "--into", run], (0, 3)),
        "profiles show": ([study, NAMES[4], "--svg", str(home / "picture.svg"), "--force"], (0,)),
        "profiles compare": ([study, NAMES[0], NAMES[5]], (0,)),
        "corpus make": ([study, "--into", run], (0, 3)),
        "corpus audit": ([study], (0,)),
        "prompts show": ([study, "--profile", NAMES[5]], (0,)),
        "data list": ([], (0,)),
        "data check": ([study], (0, 3)),
        "batch write": ([run, "--scorer", "judge"], (0, 2)),
        "batch submit": ([run, "--scorer", "judge"], (0, 1, 2)),
        "batch collect": ([run, "--scorer", "judge"], (0, 2, 3)),
        "demo base": (["--text", str(home / "absent.txt"), "--out", str(home / "x")], (2,)),
        "": (["--help"], (0,)),
    }  # fmt: skip


def test_every_verb_is_tried(hostile: Hostile) -> None:
    group = get_command(app)
    names: set[str] = set()
    for name, one in group.commands.items():  # type: ignore[attr-defined]
        names |= {f"{name} {inner}" for inner in getattr(one, "commands", {})} or {name}
    assert names == set(verbs(hostile)) - {""}


def check_output(name: str, ended: Ended, codes: tuple[int, ...]) -> None:
    assert "Traceback" not in ended.err, f"{name}: {ended.err[-1500:]}"
    assert ended.code in codes, f"{name}: {ended.code}: {ended.err[-500:]}"
    data = (ended.out + ended.err).encode("utf-8", "surrogatepass")
    assert leaks(name, data) == []
    assert not [raw for raw in RAW if raw in data], name
    assert b"\x1b" not in data, name


def test_every_verb_prints_plainly_and_leaks_nothing(hostile: Hostile) -> None:
    rows = [f"the {'stupid' if n % 3 else 'quiet'} road {n},{0.9 if n % 3 else 0.1}" for n in range(80)]
    (hostile.home / "texts.csv").write_text("\n".join(["text,published", *rows]))
    for name, (words, codes) in verbs(hostile).items():
        check_output(name, command(*name.split(), *words), codes)
    one = next(p.id for p in unharm.open_run(hostile.folder).prompts("hexphi"))
    check_output("show --reveal", command("show", str(hostile.folder), "--prompt", one, "--reveal"), (0,))
    for name in ("plan", "status", "show", "profiles list", "prompts show"):
        words, codes = verbs(hostile)[name]
        ended = command(*name.split(), *words, "--json")
        check_output(f"{name} --json", ended, codes)
        json.loads(ended.out)
    assert leaks_in_folder(hostile.home) == []


def test_what_the_verbs_wrote_is_harmless(hostile: Hostile) -> None:
    """Runs after the verbs: LaTeX, Markdown, model cards, a picture, a sheet of labels."""
    latex = (hostile.folder / "findings" / "tables.tex").read_text()
    assert "\\input{" not in latex
    cards = sorted((hostile.home / "exported").rglob("README.md"))
    assert len(cards) >= len(NAMES)
    for text in [card.read_text() for card in cards] + [(hostile.home / "compared.md").read_text()]:
        assert "](javascript:" not in text
        assert "<script" not in text
    for element in ElementTree.parse(hostile.home / "picture.svg").iter():
        assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "a", "image")
        assert not [name for name in element.attrib if name.startswith("on")]
    with (hostile.home / "labels.csv").open(encoding="utf-8", newline="") as file:
        sheet = list(csv.DictReader(file))
    assert sheet
    assert not [c for row in sheet for c in row.values() if c.startswith(("=", "@", "+", "-", "\t", "\r"))]
    assert b"\x1b" not in (hostile.home / "labels.csv").read_bytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_no_verb_breaks_where_its_output_cannot_be_written(hostile: Hostile) -> None:
    for number, (name, (words, codes)) in enumerate(light(hostile).items()):
        kinds = ("full", "closed pipe")
        for kind in kinds if os.environ.get("UNHARM_EVERY") else (kinds[number % 2],):
            reads, writes = os.pipe()
            os.close(reads)
            with open("/dev/full" if kind == "full" else writes, "w") as out, mock.patch("sys.stdout", out):
                err = io.StringIO()
                code = _main(*name.split(), *words, quiet=err)
            if kind == "full":
                os.close(writes)
            assert "Traceback" not in err.getvalue(), f"{name} to a {kind}: {err.getvalue()[-1500:]}"
            assert code in {1, *codes}, f"{name} to a {kind}: {code}"


def test_no_verb_breaks_in_an_ascii_locale(hostile: Hostile) -> None:
    for name, (words, codes) in light(hostile).items():
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
        with mock.patch("sys.stdout", streams[0]), mock.patch("sys.stderr", streams[1]):
            code = _main(*name.split(), *words)
        for stream in streams:
            stream.flush()
        printed = b"".join(stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
        assert b"Traceback" not in printed, f"{name}: {printed[-1500:].decode()}"
        assert code in codes, f"{name}: {code}"
        assert leaks(name, printed) == []


def test_nothing_steers_a_terminal(hostile: Hostile) -> None:
    """On a pseudo-terminal: colours of our own, and no other sequence."""
    one = next(p.id for p in unharm.open_run(hostile.folder).prompts("hexphi"))
    chosen = light(hostile) | {"show --prompt": ([str(hostile.folder), "--prompt", one, "--reveal"], (0,))}
    for name, (words, codes) in chosen.items():
        printed, code = _on_a_terminal(*name.partition(" --")[0].split(), *words)
        assert code in codes, f"{name}: {code}"
        assert b"Traceback" not in printed, f"{name}: {printed[-1500:].decode()}"
        assert leaks(name, printed) == []
        assert not [raw for raw in RAW if raw in printed], name
        assert set(re.findall(rb"\x1b[^m]{0,12}m?", printed)) <= set(
            re.findall(rb"\x1b\[[0-9;]*m", printed)
        ), name


def _main(*words: str, quiet: io.StringIO | None = None) -> int:
    """Run the command on the streams that are there, or with another standard error; return its exit code."""
    import traceback

    from unharm.cli.app import main

    err = sys.stderr if quiet is None else quiet
    with mock.patch.object(sys, "argv", ["unharm", *words]), mock.patch("sys.stderr", err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException:
            print(traceback.format_exc(), file=sys.stderr)
            code = 99
        else:
            code = 0
    return code


def _on_a_terminal(*words: str) -> tuple[bytes, int]:
    """Run the command with both streams on a pseudo-terminal; return what arrives there."""
    reads, writes = pty.openpty()
    blocks: list[bytes] = []

    def read() -> None:
        while True:
            try:
                block = os.read(reads, 1 << 16)
            except OSError:  # the other end is closed
                return
            blocks.append(block)

    thread = threading.Thread(target=read)
    thread.start()
    with open(writes, "w", encoding="utf-8", closefd=True) as stream:
        assert stream.isatty()
        with mock.patch("sys.stdout", stream), mock.patch("sys.stderr", stream):
            code = _main(*words)
    thread.join()
    os.close(reads)
    return b"".join(blocks), code
