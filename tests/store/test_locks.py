"""Tests of `unharm.store.locks`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from unharm.core import interrupt
from unharm.core.errors import UserError
from unharm.store.locks import lease
from unharm.store.object_storage import Remote
from unharm.store.store import Store


@pytest.fixture
def place() -> Iterator[Remote]:
    with interrupt.on_interrupt():  # whatever asks to stop is forgotten afterwards
        yield Remote(f"memory://bucket/{uuid.uuid4().hex}")


def test_a_second_process_is_told_and_the_lease_ends_with_its_holder(place: Remote) -> None:
    with lease(place, beat=0.05, silent=1.0):
        with pytest.raises(UserError, match="is working in this run folder"), lease(place, 0.05, 1.0):
            pass
        assert not interrupt.stop_requested()
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
        assert not interrupt.stop_requested()


def test_who_was_taken_over_from_stops(place: Remote) -> None:
    with ExitStack() as stack:
        stack.enter_context(lease(place, beat=0.05, silent=1.0))
        place.write(".lease", json.dumps({"own": "other", "beat": 0, "who": "process 2 on there"}).encode())
        until = time.monotonic() + 5
        while not interrupt.stop_requested() and time.monotonic() < until:
            time.sleep(0.01)
        assert interrupt.stop_requested()
    assert json.loads(place.read(".lease") or b"")["own"] == "other"


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from unharm.store.store import Store\n"
        "with Store(Path(sys.argv[1])).lock(): print('got it')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with Store(tmp_path).lock():
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"process {os.getpid()}" in second.stderr
        assert "is working in this run folder" in second.stderr
    third = subprocess.run(command, capture_output=True, text=True, check=False)
    assert third.stdout.strip() == "got it"
