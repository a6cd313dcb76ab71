"""SIGTERM and SIGHUP stop a run as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import time

import pytest

from unharm.core import interrupt


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_the_first_signal_asks_and_the_second_leaves(number: str, code: int) -> None:
    which = signal.Signals[number]
    before = signal.getsignal(which)
    with pytest.raises(KeyboardInterrupt), interrupt.on_interrupt():
        os.kill(os.getpid(), which)
        assert interrupt.stop_requested()
        assert interrupt.exit_code() == code
        os.kill(os.getpid(), which)
        time.sleep(1)
    assert not interrupt.stop_requested()
    assert signal.getsignal(which) is before


def test_at_the_deadline_the_work_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "DEADLINE", 0.05)
    monkeypatch.setattr(interrupt, "GRACE", 600)
    with pytest.raises(KeyboardInterrupt), interrupt.on_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt.on_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.stop_requested()
    finally:
        signal.signal(signal.SIGHUP, before)
