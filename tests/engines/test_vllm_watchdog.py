"""Tests of `unharm.engines.vllm_watchdog`: processes as vLLM starts them, without vLLM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

PARENT = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
older = subprocess.Popen(sleep)
watchdog = subprocess.Popen(
    [sys.executable, "-m", "unharm.engines.vllm_watchdog", "MARK", sys.argv[1]],
    stdin=subprocess.PIPE, start_new_session=True,
)
time.sleep(float(sys.argv[2]))
# vLLM's processes overwrite what others read of their environment: this one has none
core = subprocess.Popen(sleep, env={}, start_new_session=True)
starting = subprocess.Popen(sleep, env=os.environ | {"MARK": sys.argv[1]})
time.sleep(1.5)
print(older.pid, watchdog.pid, core.pid, starting.pid, flush=True)
if sys.stdin.readline():
    watchdog.communicate(b"closed")
    print("done", flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended, within ten seconds."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_killed_parent_started_ends_and_nothing_else(killed: bool) -> None:
    token = f"token-{os.getpid()}-{killed}"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, token, "1.5"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout is not None
        assert parent.stdin is not None
        older, watchdog, core, starting = (int(word) for word in parent.stdout.readline().split())
        try:
            if killed:
                parent.send_signal(signal.SIGKILL)
                assert gone(core)
                assert gone(starting)
            else:
                parent.stdin.write("close\n")
                parent.stdin.flush()
                assert parent.stdout.readline() == "done\n"
                assert psutil.pid_exists(core)
                assert psutil.pid_exists(starting)
            assert gone(watchdog)
            assert psutil.pid_exists(older)
        finally:
            for pid in (parent.pid, older, core, starting):
                if psutil.pid_exists(pid):
                    os.kill(pid, signal.SIGKILL)
