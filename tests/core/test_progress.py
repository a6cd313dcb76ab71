"""Messages and progress: who sees them, and what they say of the time left."""

from __future__ import annotations

import logging

import pytest

from unharm.core import progress
from unharm.core.progress import Progress, Tally, duration, say, telling_to, watched


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_the_time_left_goes_by_the_last_minute(clock: Clock) -> None:
    meter = Progress("adapters", 1000, "examples")
    clock.now += 600  # a model loads for ten minutes
    meter.count = 1
    assert meter.seconds_left(clock.now) == pytest.approx(999 * 600)
    for _ in range(70):
        clock.now += 1
        meter.count += 5
        left = meter.seconds_left(clock.now)
    assert left == pytest.approx((1000 - meter.count) / 5, rel=0.05)


def test_before_anything_is_made_no_time_is_promised(clock: Clock) -> None:
    meter = Progress("scores", 10, "shards")
    clock.now += 5
    assert meter.seconds_left(clock.now) is None


def test_a_stage_says_what_it_made(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("scores", 5, "shards", finished=2) as meter:
        meter.tick(3)
    said = capsys.readouterr().err
    assert "scores: 2 of 5 shards are already there" in said
    assert "scores: 3 shards in 0 s" in said


def test_messages_go_to_logging_and_to_nobody_unless_watched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("unharm")
    monkeypatch.setattr(logger, "handlers", [])
    say("in silence")
    assert capsys.readouterr() == ("", "")
    with watched("lines"):
        say("aloud")
        with watched("lines"):  # an inner one does not double the lines
            say("once")
    assert capsys.readouterr().err == "aloud\nonce\n"
    assert not logger.handlers


def test_a_terminal_line_is_taken_away_before_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(logging.getLogger("unharm"), "handlers", [])
    with watched("terminal"), Progress("completions", 9, "completions") as meter:
        clock.now += 1
        meter.tick(3)
        say("a word")
    lines = capsys.readouterr().err
    assert "\rcompletions: 3 of 9 completions" in lines
    assert "\ra word\n" in lines


def test_workers_send_their_lines_to_the_process_that_leads() -> None:
    tally = Tally()
    with telling_to(tally.said.append):
        say("from a worker")
    assert tally.take().said == ["from a worker"]
    assert tally.take().said == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.6, "8 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (270000, "3 days 3 h")]
)
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words
