"""Tests of `unharm.executors.dispatch`."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unharm.core import interrupt
from unharm.core.errors import Problem, UserError
from unharm.core.progress import Progress
from unharm.executors.chunks import Chunk, Fault, Meter, Outcome, Work
from unharm.executors.dispatch import MAX_DEATHS, MAX_GIVEN_UP, dispatch


class Scripted:
    """A pool that does at once what its script says of each piece: bad ones break their chunk, deadly ones kill the
    worker; counts how often each piece was done."""

    def __init__(self, bad: set[str] = frozenset(), deadly: set[str] = frozenset(), size: int = 2):  # type: ignore[assignment]
        self.bad, self.deadly, self.size = bad, deadly, size
        self.done: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self._given: deque[Chunk] = deque()
        self.stopped = 0

    def give(self, chunk: Chunk, work: Work) -> None:
        assert len(self._given) < self.size
        self._given.append(chunk)

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        chunk = self._given.popleft()
        names = {name for _, name in chunk.items}
        self.begun.update(names)
        if names & self.deadly:
            return [(chunk, Outcome("worker_died"))]
        if names & self.bad:
            return [(chunk, Outcome("failed", fault=Fault("ValueError at x.py:1", "secret")))]
        self.done.update(names)
        progress.tick(len(names))
        return [(chunk, Outcome("done", {"items": len(names)}))]

    def stop(self) -> None:
        self.stopped += 1

    def close(self) -> None:
        pass


def chunks_of(count: int, size: int) -> list[Chunk]:
    items = [(0, str(n)) for n in range(count)]
    return [Chunk("scores", "x", tuple(items[i : i + size])) for i in range(0, count, size)]


def no_work(context: Any, chunk: Chunk, meter: Meter) -> dict[str, int]:
    """What the scripted pool is handed and never calls."""
    raise AssertionError


def carried(pool: Scripted, chunks: list[Chunk]) -> tuple[dict[str, int], list[str]]:
    given_up: list[str] = []
    counts = dispatch(
        pool,
        chunks,
        no_work,
        lambda chunk, fault: given_up.append(chunk.items[0][1]),
        Progress("t", 0, "items"),
    )
    return counts, given_up


@given(
    st.integers(1, 40), st.integers(1, 12), st.integers(1, 4), st.sets(st.integers(0, 39), max_size=5),
    st.sets(st.integers(0, 39), max_size=3),
)  # fmt: skip
def test_what_fails_is_alone_in_the_end_and_everything_else_is_done_once(
    count: int, size: int, workers: int, bad: set[int], deadly: set[int]
) -> None:
    failing = {str(n) for n in (bad | deadly) if n < count}
    pool = Scripted({str(n) for n in bad}, {str(n) for n in deadly}, workers)
    assume(len(failing) < count or count < MAX_GIVEN_UP)  # else nothing succeeds: another test
    counts, given_up = carried(pool, chunks_of(count, size))
    assert sorted(given_up) == sorted(failing)
    assert pool.done == Counter(str(n) for n in range(count) if str(n) not in failing)
    assert counts.get("items", 0) == count - len(failing)


def test_a_chunk_whose_worker_dies_is_given_again_before_it_is_cut() -> None:
    pool = Scripted(deadly={"0"})
    _, given_up = carried(pool, chunks_of(2, 2))
    assert given_up == ["0"]
    assert pool.begun["1"] == MAX_DEATHS + 1  # with the other one, then alone
    assert pool.done["1"] == 1


def test_where_nothing_succeeds_the_error_itself_is_raised() -> None:
    everything = {str(n) for n in range(50)}
    with pytest.raises(RuntimeError, match="every item of t fails") as error:
        carried(Scripted(everything), chunks_of(50, 10))
    assert "secret" in str(error.value)  # a traceback of ours, not a message for users


def test_a_users_mistake_stops_the_rest_and_is_told_whole() -> None:
    class Wrong(Scripted):
        def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
            found = super().wait(progress)
            where = f"disk {found[0][0].items[0][1]}"
            return [(found[0][0], Outcome("user_error", problems=[Problem("the disk is full", where)]))]

    pool = Wrong(size=2)
    with pytest.raises(UserError) as error:
        carried(pool, chunks_of(8, 1))
    assert [p.where for p in error.value.problems] == ["disk 0", "disk 1"]  # what was on its way is heard
    assert pool.stopped == 1


def test_a_run_that_is_asked_to_stop_begins_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Scripted(size=1)
    monkeypatch.setattr(interrupt, "stop_requested", lambda: pool.done.total() >= 2)
    with pytest.raises(interrupt.Stopped):
        carried(pool, chunks_of(6, 1))
    assert pool.done.total() == 2
    assert pool.stopped == 1
