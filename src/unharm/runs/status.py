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
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from unharm.core.errors import UserError
from unharm.core.progress import Progress, duration
from unharm.runs.adapters import failed_names
from unharm.runs.context import Run
from unharm.store import journal
from unharm.store.store import Store

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
        run.store.write_plain(FILE, json.dumps(_status(run, state, began), indent=1))


def _status(run: Run, state: str, began: float) -> dict[str, Any]:
    """What status.json says."""
    return {
        "state": state,
        "at": time.time(),
        "began": began,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "steps": dict(run.steps),
        "stages": {meter.title: asdict(_stage(meter)) for meter in list(run.meters)},
        "failed": run.workers.failures,
        "failed_adapters": {} if state == "running" else failed_names(run),
        "unscored": run.unscored,
    }


def _stage(meter: Progress) -> StageStatus:
    rate = round(meter.rate, 3)
    return StageStatus(meter.count, meter.total, meter.unit, rate, meter.note, meter.ended)


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is: items `done` of `total`, items a second, a note, and whether it has ended."""

    done: int
    total: int
    unit: str
    rate: float
    note: str
    ended: bool


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Attributes:
        run: The run folder or URL.
        state: `running`; `silent` where it should be running and has given no sign of life for a minute, or
            its process is gone; `done`, `stopped` or `failed`.
        at: When it gave the last sign of life, seconds since 1970.
        age: Seconds since then.
        began: When this session began.
        process: The process that leads the run, on `host`.
        steps: Each stage of this session: `done`, `running` or `waiting`.
        stages: How far the stages are that have items to count.
        now: The tasks that were begun and are not done.
        failed: The items that were given up.
        failed_adapters: The adapters that are left out, and why.
        unscored: Completions without a score.
    """

    run: str
    state: str
    at: float
    age: float
    began: float
    process: int
    host: str
    steps: dict[str, str]
    stages: dict[str, StageStatus]
    now: list[str]
    failed: list[str]
    failed_adapters: dict[str, str]
    unscored: int


def status(folder: str) -> RunStatus:
    """Where the run in a folder stands. Raises `UserError` where there is no run."""
    store = Store.at(folder)
    text = store.read_plain(FILE)
    if text is None:
        raise UserError("no run in this folder", folder, "give a folder such as runs/quickstart")
    try:
        data: dict[str, Any] = json.loads(text)
        age = max(0.0, time.time() - data["at"])
        data["stages"] = {name: StageStatus(**stage) for name, stage in data["stages"].items()}
        found = RunStatus(run=store.location, age=age, now=[], **data)
    except (ValueError, KeyError, TypeError, AttributeError):
        todo = "the next run writes it again"
        raise UserError("the status of this run cannot be read", f"{store}/{FILE}", todo) from None
    # on this machine its process is looked for; a clock of another one may go otherwise
    here = found.host == socket.gethostname()
    alive = psutil.pid_exists(found.process) if here else age <= SILENT
    if found.state == "running" and not alive:
        return replace(found, state="silent")
    return replace(found, now=_open_tasks(store)) if found.state == "running" else found


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


def status_text(found: RunStatus) -> str:
    """A status for people."""
    who = f"process {found.process} on {found.host}"
    words = {
        "running": f"running, {who}",
        "silent": f"nobody seems to work on it; the last sign of life of {who} was",
        "done": "done",
        "stopped": "stopped; the same command goes on from here",
        "failed": "ended with an error; the same command goes on from here",
    }
    lines = [f"{found.run}: {words[found.state]} ({duration(found.age)} ago)"]
    for step in found.steps | dict.fromkeys(found.stages, ""):
        stage, where = found.stages.get(step), found.steps.get(step, "")
        line = f"{step:<14}{where:<9}"
        if stage:
            line += f"{stage.done:>12,} of {stage.total:,} {stage.unit}"
        if stage and found.state == "running" and not stage.ended:
            rate, left = stage.rate, stage.total - stage.done
            until = time.localtime(time.time() + left / rate) if rate else None
            line += f", {rate:,.3g}/s, {duration(left / rate) if rate else '?'} left"
            line += f" (until {time.strftime('%Y-%m-%d %H:%M', until)})" if until else ""
            line += f" ({stage.note})" if stage.note else ""
        lines.append(line.rstrip())
    if found.now:
        shown = found.now[:8]
        lines += ["now"] + [f"    {name}" for name in shown]
        lines += [f"    and {len(found.now) - 8:,} more"] if len(found.now) > 8 else []
    if found.unscored:
        lines.append(f"unscored      {found.unscored:>12,} completions")
    failed = [*found.failed, *(f"{name}: {why}" for name, why in found.failed_adapters.items())]
    if failed:
        lines += [f"failed        {len(failed):>12,}"] + [f"    {name}" for name in failed[:20]]
        lines.append("the same command (unharm run STUDY) tries what failed again")
    return "\n".join(lines)
