"""A process that waits for the end of its parent, then ends what vLLM started there, or was starting.

    python -m unharm.engines.vllm_watchdog VARIABLE TOKEN

Standard input is a pipe from the parent. A word on it ("closed") means that vLLM has ended in order. If it
closes without a word, the parent was killed. vLLM's processes are found in two ways; neither finds all:

- while the parent lives, its descendants are noted once a second: vLLM's processes give themselves a title,
  which overwrites the environment that others can read;
- at the end, every process whose environment has the token, which finds one that started just now.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys

import psutil

EVERY = 1.0
"""Seconds between two looks at the parent's descendants."""


def descendants(process: psutil.Process) -> set[psutil.Process]:
    """Return the processes below one, without this one."""
    try:
        return {p for p in process.children(recursive=True) if p.pid != os.getpid()}
    except psutil.Error:
        return set()


def marked(variable: str, token: str) -> set[psutil.Process]:
    """Return the processes whose environment has the token."""
    matching = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(variable) == token:
                matching.add(process)
    return matching


def watch(variable: str, token: str) -> None:
    """Wait for the parent to end; if it was killed, kill what vLLM left."""
    parent = psutil.Process(os.getppid())
    earlier = descendants(parent)
    started: set[psutil.Process] = set()
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        started = {p for p in started | descendants(parent) if p.is_running()} - earlier
    if sys.stdin.read():
        return
    for process in list(started):
        started |= descendants(process)
    for process in started | marked(variable, token):
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2])
