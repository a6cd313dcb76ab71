"""Runs on object storage: the same bytes, from several machines, with a lease that needs no clock."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.studies import study_data
from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.run.pipeline import run_study
from unharm.run.status import status
from unharm.run.tools.rescore import rewrite_report
from unharm.store import journal
from unharm.store.locks import lease
from unharm.store.object_storage import Remote, as_url
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
        Store.at("s3://me:secret@host/bucket")
    with pytest.raises(UserError, match="no access to nosuchthing"):
        Store.at("nosuchthing://bucket/run")


def test_a_file_and_its_marker_come_to_another_machine(url: str, machine: Any) -> None:
    artefact = Artefact("a/b.txt", "k1")
    Store.at(url).put_text(artefact, "hello")
    machine("two")
    store = Store.at(url)
    assert not store.done(artefact)  # it has not looked yet
    store.refresh("a")
    assert store.done(artefact)
    assert not (store.root / "a/b.txt").exists()  # and nothing is fetched before it is needed
    assert store.locate(artefact).read_text() == "hello"
    store.remove(artefact)
    machine("one")
    again = Store.at(url)
    again.refresh()
    assert not again.done(artefact)


def test_what_another_machine_makes_anew_replaces_what_is_here(url: str, machine: Any) -> None:
    artefact = Artefact("a/b.txt", "k1")
    Store.at(url).put_text(artefact, "unanswered")
    machine("two")
    Store.at(url).put_text(artefact, "answered")
    machine("one")
    store = Store.at(url)
    store.refresh("a")
    assert store.locate(artefact).read_text() == "answered"
    assert not (store.root / "damaged").exists()


def test_what_is_damaged_on_the_storage_is_set_aside(url: str, machine: Any) -> None:
    artefact = Artefact("a/b.txt", "k1")
    first = Store.at(url)
    first.put_text(artefact, "hello")
    assert first.remote is not None
    first.remote.write("a/b.txt", b"hellp")
    machine("two")
    store = Store.at(url)
    store.refresh()
    with pytest.raises(UserError, match="damaged") as error:
        store.locate(artefact)
    assert "the same command makes it again" in str(error.value)
    assert not store.done(artefact)
    assert store.remote is not None
    assert [name for name in store.remote.listing("") if name.startswith("damaged/")]


def test_a_run_on_object_storage_leaves_the_same_and_goes_on_elsewhere(
    url: str, machine: Any, tiny_base: Path, tmp_path: Path
) -> None:
    run_study(parsed(tiny_base, str(tmp_path / "local")))
    run = run_study(parsed(tiny_base, url))
    assert run.store.remote is not None
    there = run.store.remote.listing("")
    for part in ("findings", "completions", "scores", "adapters"):
        for file in (tmp_path / "local" / part).rglob("*"):
            name = file.relative_to(tmp_path / "local").as_posix()
            if file.is_file():
                assert run.store.remote.read(name) == file.read_bytes(), name
    assert {"report.html", "manifest.json", "study.json", "status.json"} <= set(there)
    assert ".lease" not in there
    assert not any("secret" in name or name.startswith(".tmp") for name in there)
    done = [row for row in journal.rows(run.store) if row["event"] == "done" and row["stage"] != "report"]
    assert done
    machine("two")
    assert status(url).state == "done"
    again = run_study(parsed(tiny_base, url))
    later = [
        row for row in journal.rows(again.store) if row["event"] == "done" and row["stage"] != "report"
    ]
    assert len(later) == len(done)  # nothing was done twice
    assert (again.scored, again.unscored) == (run.scored, run.unscored)
    machine("three")
    page = rewrite_report(Path(url))  # as the command line gives it
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_paid_answers_need_a_file_that_outlives_the_machine(
    tiny_base: Path, load: Any, tmp_path: Path
) -> None:
    data = study_data(tiny_base, Path("x")) | {"output": "memory://bucket/x"}
    data["scorers"] = {"j": {"kind": "judge", "server": {"url": "http://127.0.0.1:1/v1"}, "model": "m"}}
    data["benchmarks"]["hexphi"]["scorer"] = "j"
    with pytest.raises(UserError, match="file of answers"):
        load(data)
    load(data | {"answers": str(tmp_path / "answers.sqlite")})


# ---- the lease ---------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Remote]:
    with interrupt.on_interrupt():  # whatever asks to stop is forgotten afterwards
        yield Remote(f"memory://bucket/{uuid.uuid4().hex}")


def test_a_second_process_is_told_and_the_lease_ends_with_its_holder(place: Remote) -> None:
    with lease(place, beat=0.05, silent=1.0):
        with pytest.raises(UserError, match="is working in this run folder"), lease(place, 0.05, 1.0):
            pass
        assert not interrupt.asked()
    assert place.read(".lease") is None
    with lease(place, 0.05, 1.0):
        assert place.read(".lease") is not None


def test_a_lease_that_nobody_renews_is_taken_over(place: Remote) -> None:
    place.create(".lease", json.dumps({"own": "dead", "beat": 3, "who": "process 1 on gone"}).encode())
    began = time.monotonic()
    with lease(place, beat=0.05, silent=0.5):
        assert time.monotonic() - began >= 0.5
        assert json.loads(place.read(".lease") or b"")["own"] != "dead"


def test_of_two_that_want_a_dead_lease_only_one_gets_it(place: Remote) -> None:
    place.create(".lease", json.dumps({"own": "dead", "beat": 3, "who": "process 1 on gone"}).encode())
    got, refused = [], []
    both = threading.Barrier(2)
    done = threading.Event()

    def want(name: str) -> None:
        both.wait()
        try:
            with lease(place, beat=0.1, silent=0.5):
                got.append(name)
                done.wait(5)
        except UserError:
            refused.append(name)
            done.set()

    threads = [threading.Thread(target=want, args=(n,)) for n in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 1


def test_a_lease_outlives_storage_that_is_away_for_a_moment(
    place: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, calls = place.write, []

    def failing(path: str, data: bytes) -> None:
        calls.append(path)
        if len(calls) < 4:
            raise ConnectionError("away")
        own(path, data)

    with lease(place, beat=0.05, silent=1.0):
        first = place.read(".lease")
        monkeypatch.setattr(place, "write", failing)
        until = time.monotonic() + 5
        while len(calls) < 6 and time.monotonic() < until:
            time.sleep(0.01)
        assert place.read(".lease") != first
        assert not interrupt.asked()


def test_who_was_taken_over_from_stops(place: Remote) -> None:
    with ExitStack() as stack:
        stack.enter_context(lease(place, beat=0.05, silent=1.0))
        place.write(".lease", json.dumps({"own": "other", "beat": 0, "who": "process 2 on there"}).encode())
        until = time.monotonic() + 5
        while not interrupt.asked() and time.monotonic() < until:
            time.sleep(0.01)
        assert interrupt.asked()
    assert json.loads(place.read(".lease") or b"")["own"] == "other"
