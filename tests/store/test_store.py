"""The run folder: keys, names, atomic writes, damage, one process at a time."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import polars as pl
import pytest

from unharm.core.errors import UserError
from unharm.store.store import Artefact, Store


def test_done_only_with_the_same_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_text(Artefact("a/b.txt", "k1"), "hello")
    assert store.done(Artefact("a/b.txt", "k1"))
    assert not store.done(Artefact("a/b.txt", "k2"))
    assert not store.done(Artefact("a/c.txt", "k1"))


def test_a_damaged_file_is_set_aside_and_not_done(tmp_path: Path) -> None:
    artefact = Artefact("t.parquet", "k")
    Store(tmp_path).put_table(artefact, pl.DataFrame({"x": [1, 2]}))
    path = tmp_path / "t.parquet"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))
    store = Store(tmp_path)
    assert not store.done(artefact)
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    store.put_table(artefact, pl.DataFrame({"x": [1, 2]}))
    assert store.scan(artefact).collect()["x"].to_list() == [1, 2]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "k"}'])
def test_a_broken_marker_means_not_done(tmp_path: Path, text: str) -> None:
    artefact = Artefact("x.txt", "k")
    Store(tmp_path).put_text(artefact, "x")
    (tmp_path / ".done" / "x.txt.json").write_text(text)
    assert not Store(tmp_path).done(artefact)


def test_folders_are_named_by_content(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def make(folder: Path) -> dict[str, int]:
        (folder / "w").write_text("weights")
        return {"examples": 3}

    one = store.put_folder(Artefact("adapters/a", "k1"), make, under="adapters")
    two = store.put_folder(Artefact("adapters/b", "k2"), make, under="adapters")
    assert one == two
    marker = store.marker(Artefact("adapters/b", "k2"))
    assert marker is not None
    assert marker["examples"] == 3
    assert store.locate(Artefact("adapters/a", "k1")) == one


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc on this system")
def test_a_file_and_its_folder_are_on_the_disk_before_its_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there may be a file without a marker, but no marker without its file."""
    store = Store(tmp_path)
    synced: list[str] = []

    def record(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        synced.append("temporary" if path.parent.name == ".tmp" else path.name)
        assert (tmp_path / "a" / "x.txt").exists() == (len(synced) > 1)
        assert (tmp_path / ".done" / "a" / "x.txt.json").exists() == (len(synced) > 3)

    monkeypatch.setattr(os, "fsync", record)
    store.put_text(Artefact("a/x.txt", "k"), "x")
    assert synced == ["temporary", "a", "temporary", "a"]
    synced.clear()

    def make(folder: Path) -> dict[str, int]:
        (folder / "w").write_text("weights")
        return {}

    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(Path(os.readlink(f"/proc/self/fd/{file}")).name)
    )
    store.put_folder(Artefact("adapters/b", "k"), make, under="adapters")
    assert synced[:2] == ["w", "adapters"]
    assert len(synced) == 4


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        store.put_text(Artefact("x.txt", "k"), "x")
    monkeypatch.undo()
    assert not (tmp_path / "x.txt").exists()
    assert not store.done(Artefact("x.txt", "k"))


def test_a_full_disk_told_by_a_library(tmp_path: Path) -> None:
    def make(folder: Path) -> dict[str, int]:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(UserError, match="the disk is full"):
        Store(tmp_path).put_folder(Artefact("a", "k"), make, under="adapters")
    assert not Store(tmp_path).done(Artefact("a", "k"))


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with (
        pytest.raises(UserError, match="a file is where a folder is needed"),
        Store(tmp_path / "run").lock(),
    ):
        pass


def test_marker_names_what_it_marks(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.put_text(Artefact("n.txt", "k", {"subject": "vim · power"}), "text")
    marker = json.loads((tmp_path / ".done" / "n.txt.json").read_text())
    assert marker["subject"] == "vim · power"
    assert marker["path"] == "n.txt"
    assert (tmp_path / ".done" / "n.txt.json").stat().st_mtime_ns >= path.stat().st_mtime_ns


def test_a_damaged_marker_marks_nothing(tmp_path: Path) -> None:
    store, artefact = Store(tmp_path), Artefact("a.json", "key")
    store.put_bytes(artefact, b"{}", valid_loss=[1.25, float("nan")], note="ä")
    assert (Store(tmp_path).marker(artefact) or {})["valid_loss"][0] == 1.25
    file = tmp_path / ".done" / "a.json.json"
    whole = file.read_text()
    file.write_text(whole.replace("1.25", "1.35"))
    assert Store(tmp_path).marker(artefact) is None
    assert Store(tmp_path).artefacts("") == []
    without = json.loads(whole)
    del without["check"]  # as earlier versions wrote it
    file.write_text(json.dumps(without))
    assert Store(tmp_path).done(artefact)
