"""Status of a run, read from its folder: finished and failed work, rate and remaining time."""

from __future__ import annotations

import contextlib
import json
import math
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
"""Seconds between two updates of the status file."""
SAME_PROCESS = 5.0
"""Seconds by which two readings of a process's start may differ."""
SILENT = 60.0
"""A run without an update for this many seconds counts as silent."""


@contextmanager
def status_updates(run: Run) -> Iterator[None]:
    """Update the status file every `EVERY` seconds until the run ends, then write how it ended."""
    ended, began = threading.Event(), time.time()

    def update() -> None:
        _write(run, "running", began)
        while not ended.wait(EVERY):
            _write(run, "running", began)

    thread = threading.Thread(target=update, daemon=True)
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
    """Write the status file. Errors are ignored: the stage reports a full disk itself."""
    with contextlib.suppress(OSError, UserError):
        run.store.write_plain(FILE, json.dumps(_status(run, state, began), indent=1))


def _status(run: Run, state: str, began: float) -> dict[str, Any]:
    """Return the content of status.json."""
    return {
        "state": state,
        "at": time.time(),
        "began": began,
        "process": os.getpid(),
        "process_started": psutil.Process().create_time(),
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
    """Progress of a stage: items `done` of `total`, items per second, a note, and whether it has ended."""

    done: int
    total: int
    unit: str
    rate: float
    note: str
    ended: bool


@dataclass(frozen=True)
class RunStatus:
    """Status of a run.

    Attributes:
        run: The run folder or URL.
        state: `running`, `done`, `stopped`, `failed`, or `silent`: a running run without an update for a
            minute, or whose process is gone.
        at: Time of the last update, in seconds since 1970.
        age: Seconds since then.
        began: Start of this session, in seconds since 1970.
        process: The leading process on `host`.
        steps: Each stage of this session: `done`, `running` or `waiting`.
        stages: Progress of the stages that count items.
        now: The tasks that are running.
        failed: The items that were given up.
        failed_adapters: The adapters that are left out, with the reason.
        unscored: Number of completions without a score.
        process_started: When that process began: a later one may have its number.
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
    process_started: float = 0.0


def status(folder: str) -> RunStatus:
    """Return the status of the run in a folder. Raise `UserError` if there is no run."""
    store = Store.open(folder)
    text = store.read_plain(FILE)
    if text is None:
        raise UserError("no run in this folder", folder, "give a folder such as runs/quickstart")
    try:
        data: dict[str, Any] = json.loads(text)
        age = max(0.0, time.time() - data["at"])
        if not math.isfinite(data["at"]):
            raise ValueError("no time")
        data["stages"] = {name: StageStatus(**stage) for name, stage in data["stages"].items()}
        current = RunStatus(run=store.location, age=age, now=[], **data)
        status_text(current)  # whatever is wrong in the file shows here
        # on the same host, look for the process itself; the clock of another host may differ
        same_host = current.host == socket.gethostname()
        alive = _is_alive(current) if same_host else age <= SILENT
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, OSError, RecursionError):
        todo = "the next run writes it again"
        raise UserError("the status of this run cannot be read", f"{store}/{FILE}", todo) from None
    if current.state == "running" and not alive:
        return replace(current, state="silent")
    return replace(current, now=_open_tasks(store)) if current.state == "running" else current


def _is_alive(current: RunStatus) -> bool:
    """Return whether the leading process is still there: the same one, not another with its number."""
    try:
        began = psutil.Process(int(current.process)).create_time()
    except psutil.Error:
        return False
    return bool(abs(began - float(current.process_started)) < SAME_PROCESS)


def _open_tasks(store: Store) -> list[str]:
    """Return the tasks that have begun and not ended, according to the journals."""
    running: dict[tuple[str, str], str] = {}
    for row in journal.events(store):
        task = (row["stage"], row["path"])
        if row["event"] == "begin":
            running[task] = f"{row['stage']}: {row['path']}"
        else:
            running.pop(task, None)
    return list(running.values())


def status_text(current: RunStatus) -> str:
    """Return a status as text."""
    who = f"process {current.process} on {current.host}"
    words = {
        "running": f"running, {who}",
        "silent": f"no process seems to work on it; the last update of {who} was",
        "done": "done",
        "stopped": "stopped; run the same command again to continue",
        "failed": "ended with an error; run the same command again to continue",
    }
    lines = [f"{current.run}: {words[current.state]} ({duration(current.age)} ago)"]
    for step in current.steps | dict.fromkeys(current.stages, ""):
        stage, where = current.stages.get(step), current.steps.get(step, "")
        line = f"{step:<14}{where:<9}"
        if stage:
            line += f"{stage.done:>12,} of {stage.total:,} {stage.unit}"
        if stage and current.state == "running" and not stage.ended:
            rate, left = stage.rate, stage.total - stage.done
            until = time.localtime(time.time() + left / rate) if rate else None
            line += f", {rate:,.3g}/s, {duration(left / rate) if rate else '?'} left"
            line += f" (until {time.strftime('%Y-%m-%d %H:%M', until)})" if until else ""
            line += f" ({stage.note})" if stage.note else ""
        lines.append(line.rstrip())
    if current.now:
        shown = current.now[:8]
        lines += ["now"] + [f"    {name}" for name in shown]
        lines += [f"    and {len(current.now) - 8:,} more"] if len(current.now) > 8 else []
    if current.unscored:
        lines.append(f"unscored      {current.unscored:>12,} completions")
    failed = [*current.failed, *(f"{name}: {why}" for name, why in current.failed_adapters.items())]
    if failed:
        lines += [f"failed        {len(failed):>12,}"] + [f"    {name}" for name in failed[:20]]
        lines.append("run the same command (unharm run STUDY) to try failed items again")
    return "\n".join(lines)
