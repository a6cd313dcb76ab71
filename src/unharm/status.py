"""Where a run stands, for anybody who sees its folder: what is done, running, failed, how fast, until
when."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil

from unharm import journal
from unharm.errors import UserError
from unharm.progress import duration
from unharm.store import Store

if TYPE_CHECKING:
    from unharm.pipeline import Run

FILE = "status.json"
EVERY = 3.0
"""Seconds between two signs of life."""
SILENT = 60.0
"""After so many seconds without one, nobody seems to be at work."""


@contextmanager
def signs_of_life(run: Run) -> Iterator[None]:
    """Writes every few seconds where the run stands into its folder, until it ends; then how it ended."""
    ended, began = threading.Event(), time.time()

    def tell() -> None:
        _write(run, "running", began)
        while not ended.wait(EVERY):
            _write(run, "running", began)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    state = "stopped"
    try:
        yield
        state = "done"
    except KeyboardInterrupt:
        raise
    except BaseException:
        state = "failed"
        raise
    finally:
        ended.set()
        thread.join()
        _write(run, state, began)


def _write(run: Run, state: str, began: float) -> None:
    with contextlib.suppress(OSError, UserError):  # the stage itself tells of a full disk
        run.store.write_plain(FILE, json.dumps(_told(run, state, began), indent=1))


def _told(run: Run, state: str, began: float) -> dict[str, Any]:
    return {
        "state": state,
        "at": time.time(),
        "began": began,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "steps": dict(run.steps),
        "stages": {
            stage.title: {
                "done": stage.count,
                "total": stage.total,
                "unit": stage.unit,
                "rate": round(stage.rate, 3),
                "note": stage.note,
                "ended": stage.ended,
            }
            for stage in list(run.stages)
        },
        "failed": run.workers.failures,
        "failed_adapters": {} if state == "running" else run.failed,
        "unscored": run.unscored,
    }


def status(folder: str) -> dict[str, Any]:
    """Where the run in a folder stands. Raises `UserError` where there is no run.

    `steps` are the stages of this session: `done`, `running`, `waiting`; `stages` have items to count.
    `state`: `running`; `silent`, when it should be running and has given no sign of life for a minute, or
    its process is gone; `done`, `stopped`, `failed`. `now`: the tasks that were begun and are not done.
    """
    store = Store.at(folder)
    text = store.read_plain(FILE)
    if text is None:
        todo = "give a folder such as runs/quickstart"
        raise UserError("no run in this folder", folder, todo)
    try:
        told: dict[str, Any] = json.loads(text)
        told["age"] = max(0.0, time.time() - told["at"])
        here = told["host"] == socket.gethostname()
    except (ValueError, KeyError, TypeError):
        todo = "the next run writes it again"
        raise UserError("the status of this run cannot be read", f"{store}/{FILE}", todo) from None
    # on this machine its process is looked for; a clock of another one may go otherwise
    there = psutil.pid_exists(told["process"]) if here else told["age"] <= SILENT
    if told["state"] == "running" and not there:
        told["state"] = "silent"
    told["now"] = _open_tasks(store) if told["state"] == "running" else []
    told["run"] = store.location
    return told


def _open_tasks(store: Store) -> list[str]:
    """The tasks that this session has begun and not finished, by the journals."""
    begun: dict[tuple[str, str], str] = {}
    for row in journal.rows(store):
        at = (row["stage"], row["path"])
        if row["event"] == "begin":
            begun[at] = f"{row['stage']}: {row['path']}"
        else:
            begun.pop(at, None)
    return list(begun.values())


def status_text(told: dict[str, Any]) -> str:
    """A status for people."""
    who = f"process {told['process']} on {told['host']}"
    words = {
        "running": f"running, {who}",
        "silent": f"nobody seems to work on it; the last sign of life of {who} was",
        "done": "done",
        "stopped": "stopped; the same command goes on from here",
        "failed": "ended with an error; the same command goes on from here",
    }
    lines = [f"{told['run']}: {words[told['state']]} ({duration(told['age'])} ago)"]
    for step in told["steps"] | dict.fromkeys(told["stages"], ""):
        stage, where = told["stages"].get(step), told["steps"].get(step, "")
        line = f"{step:<14}{where:<9}"
        if stage:
            line += f"{stage['done']:>12,} of {stage['total']:,} {stage['unit']}"
        if stage and told["state"] == "running" and not stage["ended"]:
            rate, left = stage["rate"], stage["total"] - stage["done"]
            until = time.localtime(time.time() + left / rate) if rate else None
            line += f", {rate:,.3g}/s, {duration(left / rate) if rate else '?'} left"
            line += f" (until {time.strftime('%Y-%m-%d %H:%M', until)})" if until else ""
            line += f" ({stage['note']})" if stage["note"] else ""
        lines.append(line.rstrip())
    if told["now"]:
        shown = told["now"][:8]
        lines += ["now"] + [f"    {name}" for name in shown]
        lines += [f"    and {len(told['now']) - 8:,} more"] if len(told["now"]) > 8 else []
    if told["unscored"]:
        lines.append(f"unscored      {told['unscored']:>12,} completions")
    failed = [*told["failed"], *(f"{name}: {why}" for name, why in told["failed_adapters"].items())]
    if failed:
        lines += [f"failed        {len(failed):>12,}"] + [f"    {name}" for name in failed[:20]]
        lines.append("the same command (unharm run STUDY) tries what failed again")
    return "\n".join(lines)
