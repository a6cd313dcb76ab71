"""A run takes a folder of its own, and touches nobody else's."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from unharm.core.errors import UserError
from unharm.store.ownership import MARKER, check_folder, first_missing, forget_start
from unharm.store.store import Artefact, Store


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["manifest.json", "report.html", "study.json", ".tmp/mine", ".done/x"])
def test_a_folder_of_the_user_is_refused_and_stays_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    (tmp_path / "thesis.tex").write_text("years of work")
    before = files(tmp_path)
    with pytest.raises(UserError, match="not empty, and no run is in it"), Store(tmp_path).lock("study"):
        pass
    assert files(tmp_path) == before


def test_the_run_of_another_study_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "run").lock("first"):
        pass
    before = files(tmp_path)
    message = "'first', and this study is 'second'"
    with pytest.raises(UserError, match=message), Store(tmp_path / "run").lock("second"):
        pass
    assert files(tmp_path) == before


def test_the_same_study_goes_on_and_tools_may_work_in_it(tmp_path: Path) -> None:
    for study in ("first", "first", ""):
        with Store(tmp_path / "run").lock(study):
            pass
    assert json.loads((tmp_path / "run" / MARKER).read_text())["study"] == "first"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 100_000, '{"study": "a"}', '{"study": "a", "unharm": "x"}']
)
def test_a_broken_marker_is_a_message(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        check_folder(tmp_path, "study")


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"study": "a", "unharm": 99}')
    with pytest.raises(UserError, match="later version"):
        check_folder(tmp_path, "a")


def test_a_run_from_before_there_was_a_marker_is_taken(tmp_path: Path) -> None:
    Store(tmp_path).put_text(Artefact("study.json", ""), "{}")
    assert check_folder(tmp_path, "any") is False


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="file is where a folder"), Store(tmp_path / "run").lock("a"):
        pass
    assert (tmp_path / "run").read_text() == "mine"


def test_a_run_that_could_not_start_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs" / "new")
    with pytest.raises(UserError, match="no"), store.lock("study"):
        store.put_text(Artefact("study.json", ""), "{}")
        store.put_text(Artefact("profiles/profiles.csv", "k"), "a")
        store.append_line("journal.jsonl", "{}")
        raise UserError("no")
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_was_copied_is_no_work(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    with pytest.raises(UserError), store.lock("study"):
        artefact = Artefact("adapters/adapter-x.1", "k")
        store.put_folder(artefact, lambda f: {"n": (f / "x").write_text("x")}, under="adapters")
        raise UserError("it does not fit the base")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["thesis.tex", "adapters/a/x", "answers.sqlite"])
def test_what_is_not_of_the_start_is_never_removed(tmp_path: Path, kept: str) -> None:
    store = Store(tmp_path / "new")
    with pytest.raises(UserError), store.lock("study"):
        store.put_text(Artefact("study.json", ""), "{}")
        (store.root / kept).parent.mkdir(parents=True, exist_ok=True)
        (store.root / kept).write_text("x")
        raise UserError("no")
    assert (store.root / kept).read_text() == "x"
    assert (store.root / "study.json").exists()


def test_an_old_run_stays_after_a_mistake(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    with store.lock("study"):
        store.put_text(Artefact("study.json", ""), "{}")
    with pytest.raises(UserError), store.lock("study"):
        raise UserError("no")
    assert (store.root / "study.json").exists()


def test_only_the_user_reads_a_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    with store.lock("study"):
        store.put_text(Artefact("a/b.json", ""), "{}")
        store.append_line("journal.jsonl", "{}")
        store.parts(Artefact("t", "k")).add({"a": 1})
        store.put_folder(Artefact("c", "k"), lambda f: {"n": (f / "x").write_text("x")}, under="adapters")
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    open_files = [p for p in store.root.rglob("*") if p.is_file() and p.stat().st_mode & 0o077]
    assert {p.name for p in open_files} <= {".lock", ".lock-holder"}


def test_a_marker_that_leads_out_of_the_run_moves_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    store = Store(tmp_path / "run")
    for path in ("../secret", str(secret), "a/../../secret"):
        marker = {"key": "k", "path": path, "sha256": "0" * 64}
        place = store.root / ".done" / "a.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(marker))
        assert store.marker(Artefact("a", "k")) is None
        assert secret.read_text() == "mine"


def test_keys_are_taken_out_of_everything_that_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import polars as pl

    key = "sk-canary-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    store = Store(tmp_path / "run")
    with store.lock("study"):
        store.put_text(Artefact("a.json", ""), key)
        store.write_plain("b.json", key)
        store.append_line("journal.jsonl", key)
        store.parts(Artefact("t", "k")).add({"a": key})
        frame = pl.DataFrame({"a": [f"x {key} y"], "n": [1]})
        store.put_table(Artefact("t.csv", "k"), frame)
        store.put_table(Artefact("t.parquet", "k"), frame, note=key)
    assert not [name for name, data in files(tmp_path).items() if key.encode() in data]
    assert store.scan(Artefact("t.parquet", "k")).collect()["a"].to_list() == ["x [redacted] y"]
    assert store.done(Artefact("a.json", ""))


def test_tidying_removes_only_what_a_finished_run_does_not_need(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, checkpoint = Artefact("a/b.json", "k"), Artefact("checkpoints/x/1.safetensors", "k")
    store.put_text(kept, "{}")
    store.put_bytes(checkpoint, b"x")
    store.parts(kept).add({"a": 1})
    (tmp_path / "empty" / "in" / "empty").mkdir(parents=True)
    store.tidy()
    assert store.done(kept)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".done", "a"]


def test_the_highest_missing_folder(tmp_path: Path) -> None:
    assert first_missing(tmp_path / "a" / "b") == tmp_path / "a"
    assert first_missing(tmp_path) is None
    (tmp_path / "x").mkdir()
    forget_start(tmp_path / "x", None)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_claimed_takes_files_of_another_run(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "first"), Store(tmp_path / "first" / "second")
    artefact = Artefact("adapters/a", "k")
    with first.lock("one"):
        first.put_folder(artefact, lambda folder: {"size": (folder / "w").write_bytes(b"w")}, "adapters")
    second.claim("two")
    second.adopt(first, artefact)
    with second.lock("two"):
        assert second.done(artefact)
    with pytest.raises(UserError, match="the run of the study 'two'"):
        second.claim("three")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="no run is in it"):
        Store(tmp_path / "notes").claim("two")
    assert sorted(p.name for p in (tmp_path / "notes").iterdir()) == ["mine.txt"]
