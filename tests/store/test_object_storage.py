"""Runs on object storage: the same bytes, from several machines, with a lease that needs no clock."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.studies import study_data
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.runs.pipeline import run_study
from unharm.runs.status import status
from unharm.runs.tools.rescore import rewrite_report
from unharm.store import journal
from unharm.store.object_storage import as_url
from unharm.store.store import Artefact, Store
from unharm.study.check import parse_study


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A server that speaks S3 on loopback, where the packages for it are installed."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs 'moto[server]'")
    server = pytest.importorskip(
        "moto.server", reason="moto is not installed: pip install s3fs 'moto[server]'"
    )
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of one's own: in memory, a folder that is used as if it were a bucket, a bucket."""
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_server")
        for name, value in {
            "ACCESS_KEY_ID": "k",
            "SECRET_ACCESS_KEY": "s",
            "ENDPOINT_URL": endpoint,
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        import boto3

        bucket = f"bucket-{uuid.uuid4().hex}"
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
        return f"s3://{bucket}/runs/one"
    if request.param == "memory":
        return f"memory://bucket/{uuid.uuid4().hex}"
    (tmp_path / "bucket").mkdir()
    return f"file://{tmp_path / 'bucket'}/run"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this process a machine of another name: with a mirror of its own."""

    def use(name: str) -> None:
        monkeypatch.setenv("UNHARM_CACHE", str(tmp_path / name))

    use("one")
    return use


def parsed(base: Path, output: str, **changes: Any) -> Any:
    data = study_data(base, Path("x")) | {"arms": ["vanilla", "vim"], "output": output} | changes
    return parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://bucket/runs/a", "s3://bucket/runs/a"),
        ("s3:/bucket/runs/a/", "s3://bucket/runs/a"),  # as a path it has lost a slash
        ("file:///tmp/x", "file:///tmp/x"),
        ("runs/quickstart", None),
        ("/tmp/a:b", None),
        ("C:/x", None),
    ],
)
def test_what_is_a_url(text: str, found: str | None) -> None:
    assert as_url(text) == found


def test_a_url_with_a_password_or_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="name or password"):
        Store.open("s3://me:secret@host/bucket")
    with pytest.raises(UserError, match="no access to nosuchthing"):
        Store.open("nosuchthing://bucket/run")


def test_a_file_and_its_marker_come_to_another_machine(url: str, machine: Any) -> None:
    artefact = Artefact("a/b.txt", "k1")
    Store.open(url).put_text(artefact, "hello")
    machine("two")
    store = Store.open(url)
    assert not store.done(artefact)  # it has not looked yet
    store.refresh("a")
    assert store.done(artefact)
    assert not (store.root / "a/b.txt").exists()  # and nothing is fetched before it is needed
    assert store.locate(artefact).read_text() == "hello"
    store.remove(artefact)
    machine("one")
    again = Store.open(url)
    again.refresh()
    assert not again.done(artefact)


def test_what_another_machine_makes_anew_replaces_what_is_here(url: str, machine: Any) -> None:
    artefact = Artefact("a/b.txt", "k1")
    Store.open(url).put_text(artefact, "unanswered")
    machine("two")
    Store.open(url).put_text(artefact, "answered")
    machine("one")
    store = Store.open(url)
    store.refresh("a")
    assert store.locate(artefact).read_text() == "answered"
    assert not (store.root / "damaged").exists()


def test_what_is_damaged_on_the_storage_is_set_aside(url: str, machine: Any) -> None:
    artefact = Artefact("a/b.txt", "k1")
    first = Store.open(url)
    first.put_text(artefact, "hello")
    assert first.remote is not None
    first.remote.write("a/b.txt", b"hellp")
    machine("two")
    store = Store.open(url)
    store.refresh()
    with pytest.raises(UserError, match="damaged") as error:
        store.locate(artefact)
    assert "run the same command again to make it" in str(error.value)
    assert not store.done(artefact)
    assert store.remote is not None
    assert [name for name in store.remote.listing("") if name.startswith("damaged/")]


@pytest.mark.parametrize("url", ["file", "s3"], indirect=True)
def test_a_run_on_object_storage_leaves_the_same_and_goes_on_elsewhere(
    url: str, machine: Any, tiny_base: Path, tmp_path: Path
) -> None:
    run_study(parsed(tiny_base, str(tmp_path / "local")))
    run = run_study(parsed(tiny_base, url))
    assert run.store.remote is not None
    there = run.store.remote.listing("")
    for part in ("findings", "completions", "scores", "adapters"):
        files = [file for file in (tmp_path / "local" / part).rglob("*") if file.is_file()]
        assert files
        for file in files:
            name = file.relative_to(tmp_path / "local").as_posix()
            assert run.store.remote.read(name) == file.read_bytes(), name
    assert {"report.html", "manifest.json", "study.json", "status.json"} <= set(there)
    assert ".lease" not in there
    assert not any("secret" in name or name.startswith(".tmp") for name in there)
    done = [row for row in journal.events(run.store) if row["event"] == "done" and row["stage"] != "report"]
    assert done
    machine("two")
    assert status(url).state == "done"
    again = run_study(parsed(tiny_base, url))
    later = [
        row for row in journal.events(again.store) if row["event"] == "done" and row["stage"] != "report"
    ]
    assert len(later) == len(done)  # nothing was done twice
    assert (again.scored, again.unscored) == (run.scored, run.unscored)
    machine("three")
    page = rewrite_report(Path(url))  # as the command line gives it
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
