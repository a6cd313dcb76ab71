"""Standard output that is closed, full, or takes ASCII alone."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from unharm.core.terminal import OutputClosed, guarded_streams, tell, warn


def test_ascii_takes_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with guarded_streams():
        tell("ä → 🙂")
    assert out.buffer.getvalue() == b"\\xe4 \\u2192 \\U0001f642\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as out:  # closed quietly: what was left went nowhere
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(OutputClosed, match="No space left"), guarded_streams():
            tell("x")


def test_a_closed_pipe_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(OutputClosed) as ended, guarded_streams():
            tell("x")
    assert ended.value.reason == ""


def test_streams_that_were_closed_before_the_start_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with guarded_streams():
        tell("x")
        warn("y")
        assert sys.stdout.name not in (1, 2)  # these are the test's own
