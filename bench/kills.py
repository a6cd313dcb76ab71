"""Kill a run at random moments, again and again, and count what was lost, done twice, or came out otherwise.

    python bench/kills.py quickstart --kills 30 --seed 1 [--ray] [--workers 2] [--set key=value ...]
    python bench/kills.py quickstart --kills 10 --seed 2 --over-stages --plain FOLDER

The process that leads the run gets SIGTERM, SIGHUP or SIGKILL; a worker, or (with --ray) a node of a cluster of two,
gets SIGKILL. After SIGTERM and SIGHUP the process has to end by itself, with exit code 143 or 129. A node comes back, a
leading process is started again with the same command. In the end the run is compared with one that nobody
disturbed: made in --plain where that folder has no run yet, so that several parts can share it.

The moments are drawn between --shortest and --longest seconds after a start. With --over-stages they are drawn
within each stage in turn, as long as the undisturbed run took for it, so that short stages get their kills too.

The last line is JSON: kills by kind; stages (kills by the stage that ran); tasks; begun_again by stage (tasks that were on their way at a kill: adapters,
of which a stack has several; shards of completions, of which an engine has several on their way; shards of scores);
kept_share (of the completions of shards that were begun again, those that were kept and not made again);
finished_twice; completions, unique_completions, scores, unique_scores; unreadable (files without their checksum);
differing (files of completions, scores, adapters and findings that differ from those of the undisturbed run).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import polars as pl
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.clusters import Nodes, cluster
from support.commands import CONTEXT
from unharm.core.hashing import sha256_of
from unharm.store import journal
from unharm.store.store import Store

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
STARTING = "start"
"""Before the first stage: imports, checks, the lock."""
OFTEN = 0.1
"""Seconds between two updates of the status, so that short stages are seen."""


def run_command(words: list[str], errors: str) -> None:
    """Run `unharm` with these words in this process, a fork of one that has imported what a run needs."""
    for number, path in ((1, os.devnull), (2, errors)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(opened, number)
    sys.argv = ["unharm", *words]
    from unharm.cli.app import main
    from unharm.runs import status

    status.EVERY = OFTEN
    main()


PARTS = ("completions", "scores", "adapters", "examples", "findings")


def workers_of(leading: ForkServerProcess, ray: bool) -> list[psutil.Process]:
    """The processes that work for the run now."""
    found = psutil.process_iter() if ray else psutil.Process(leading.pid).children(recursive=True)
    mine = []
    for process in found:
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if (ray and words and words[0].startswith("ray::Worker")) or (
                not ray and "unharm.executors.processes" in words
            ):
                mine.append(process)
    return mine


class Session:
    """One start of the command, and where it stands."""

    def __init__(self, command: list[str], folder: Path):
        self.folder, self.began = folder, time.time()
        self.errors = Path(tempfile.mkstemp(prefix="unharm-kills-")[1])
        self.process = CONTEXT.Process(target=run_command, args=(command, str(self.errors)))
        self.process.start()

    def steps(self) -> dict[str, str]:
        """The stages of this session: `waiting`, `running` or `done`; empty before the first."""
        with contextlib.suppress(OSError, ValueError):
            status = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
            if status["began"] >= self.began:
                return dict(status["steps"])
        return {}

    def stage(self) -> str:
        """The stage that runs now."""
        steps = self.steps()
        return next((name for name, state in steps.items() if state == "running"), STARTING)

    def running(self) -> bool:
        return self.process.exitcode is None

    def wait_for(self, stage: str) -> None:
        """Wait until a stage has begun, or the process has ended."""
        while self.running() and stage != STARTING and self.steps().get(stage, "waiting") == "waiting":
            time.sleep(0.02)

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until the process has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.running():
            time.sleep(0.02)

    def finish(self) -> None:
        """Wait for the end. Exit where the run failed."""
        self.process.join()
        if self.process.exitcode not in (0, 3):
            sys.exit(f"the run failed ({self.process.exitcode}):\n{self.errors.read_text()[-3000:]}")


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """Run to the end and return the seconds of each stage."""
    session = Session(command, folder)
    seconds: dict[str, float] = {}
    while session.running():
        before = time.monotonic()
        stage = session.stage()
        time.sleep(0.1)
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - before
    session.finish()
    return seconds


def moments(
    words: argparse.Namespace, draw: random.Random, seconds: dict[str, float]
) -> list[tuple[str, float]]:
    """The stage and the seconds after its begin of each kill."""
    if not words.over_stages:
        return [(STARTING, draw.uniform(words.shortest, words.longest)) for _ in range(words.kills)]
    names = list(seconds)
    chosen = [names[n * len(names) // words.kills] for n in range(words.kills)]
    return [(name, draw.uniform(0, seconds[name] / chosen.count(name))) for name in chosen]


def disturbed(
    command: list[str],
    words: argparse.Namespace,
    nodes: Nodes | None,
    folder: Path,
    seconds: dict[str, float],
) -> tuple[Counter[str], Counter[str]]:
    """Run to the end with so many kills; return how many of each kind, and in each stage, there were."""
    draw = random.Random(words.seed)
    kinds = [number.name for number in SIGNALS] + (["node"] if nodes else [])
    kinds += ["worker"] if nodes or words.workers > 1 else []  # one worker is the leading process itself
    kills: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    session = Session(command, folder)
    print(f"{'kill':>4}  {'after s':>7}  {'kind':<7} {'stage':<12} {'done':>5}")
    for number, (stage, wait) in enumerate(moments(words, draw, seconds), 1):
        kind = draw.choice(kinds)
        session.wait_for(stage)
        session.sleep(wait)
        if kind == "worker" and not wait_for_workers(session, nodes is not None):
            kind = draw.choice(SIGNALS).name  # no stage of this session has workers any more
        if not session.running():
            session.finish()
            print("the run ended before the kill")
            break
        at = session.stage()
        if kind == "worker":
            with contextlib.suppress(psutil.Error, IndexError):
                draw.choice(workers_of(session.process, nodes is not None)).kill()
        elif kind == "node" and nodes:
            nodes.tell("remove")
            nodes.tell("add")
        else:
            kills["too slow"] += not stopped(session, signal.Signals[kind])
            session = Session(command, folder)
        kills[kind] += 1
        stages[at] += 1
        done = sum(row["event"] == "done" for row in journal.events(Store(folder)))
        print(f"{number:>4}  {wait:7.1f}  {kind:<7} {at:<12} {done:>5}", flush=True)
    session.finish()
    return kills, stages


def wait_for_workers(session: Session, ray: bool) -> bool:
    """Wait up to ten seconds for a worker; return whether there is one."""
    until = time.monotonic() + 10
    while session.running() and time.monotonic() < until:
        if workers_of(session.process, ray):
            return True
        time.sleep(0.2)
    return False


def stopped(session: Session, number: signal.Signals) -> bool:
    """Send a signal; return whether the process ended in time. Exit where it ended with a wrong code."""
    assert session.process.pid is not None
    os.kill(session.process.pid, number)
    session.process.join(60)
    code = session.process.exitcode
    if code is None:
        session.process.kill()
        session.process.join()
        return False
    if number != signal.SIGKILL and code not in (128 + number, -number, 0, 3):
        sys.exit(f"after {number.name} the run ended with {code}")
    return True


def tally(folder: Path, plain: Path, kills: Counter[str], stages: Counter[str]) -> dict[str, object]:
    """Return what the last line prints."""
    rows = [r for r in journal.events(Store(folder)) if r["stage"] in ("adapters", "completions", "scores")]
    begun = Counter(f"{r['path']} {r['key']}" for r in rows if r["event"] == "begin")
    done = Counter(f"{r['path']} {r['key']}" for r in rows if r["event"] == "done")
    again = [r for r in rows if r["event"] == "begin" and r.get("kept")]
    stage_of = {f"{r['path']} {r['key']}": r["stage"] for r in rows}
    twice = Counter(dict.fromkeys(("adapters", "completions", "scores"), 0))
    for task, times in begun.items():
        twice[stage_of[task]] += times - 1
    completions, scores = frame_of(folder / "completions"), frame_of(folder / "scores")
    store = Store(folder)
    every = [a for part in ("completions", "scores", "adapters", "examples") for a in store.artefacts(part)]
    bad = [a for a in every if sha256_of(folder / a.details["path"]) != a.details["sha256"]]
    wanted = sum(r["wanted"] for r in again)
    return {
        "kills": {kind: count for kind, count in kills.items() if count},
        "stages": dict(stages),
        "tasks": len(done),
        "begun_again": dict(twice),
        "kept_share": round(sum(r["kept"] for r in again) / wanted, 3) if wanted else None,
        "finished_twice": sum(done.values()) - len(done),
        "completions": completions.height,
        "unique_completions": completions["completion_id"].n_unique(),
        "scores": scores.height,
        "unique_scores": scores.select("completion_id", "scorer").n_unique(),
        "unreadable": len(bad),
        "differing": len(differing(folder, plain)),
    }


def frame_of(folder: Path) -> pl.DataFrame:
    """The ids in all tables of a folder; `scorer` stands for the scorer's own file of a shard."""
    frames = []
    for file in sorted(folder.rglob("*.parquet")):
        start = file.stem.rpartition("-")[0]
        same = sorted(f.name for f in file.parent.glob(f"{start}-*.parquet"))
        frames.append(
            pl.read_parquet(file, columns=["completion_id"]).with_columns(
                scorer=pl.lit(same.index(file.name))
            )
        )
    return pl.concat(frames)


def differing(folder: Path, plain: Path) -> list[str]:
    """Files that only one of two runs has, or that differ."""

    def files(root: Path) -> dict[str, Path]:
        every = (f for part in PARTS for f in (root / part).rglob("*") if f.is_file())
        return {f.relative_to(root).as_posix(): f for f in every}

    one, other = files(folder), files(plain)
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or one[name].read_bytes() != other[name].read_bytes()
    ]


@contextlib.contextmanager
def perhaps_cluster(wanted: bool) -> Iterator[Nodes | None]:
    if not wanted:
        yield None
        return
    with cluster(2, 1) as nodes:
        yield nodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shortest", type=float, default=4.0, help="least seconds until a kill")
    parser.add_argument("--longest", type=float, default=16.0, help="most seconds until a kill")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--ray", action="store_true", help="on a cluster of two nodes of one processor each"
    )
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument(
        "--over-stages", action="store_true", help="draw the moments within each stage in turn"
    )
    parser.add_argument("--plain", type=Path, help="the folder of the undisturbed run")
    words = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    home = Path(tempfile.mkdtemp(prefix="unharm-kills-"))
    folder, plain = home / "run", words.plain or home / "plain"
    command = ["run", words.study, "--set", "training.save_every=2"]
    command += [part for change in words.set for part in ("--set", change)]
    times = plain.with_suffix(".seconds.json")
    if not times.exists():
        times.write_text(json.dumps(timed([*command, "--set", f"output={plain}"], plain)))
    seconds = json.loads(times.read_text())
    print("undisturbed: " + ", ".join(f"{stage} {took:.1f} s" for stage, took in seconds.items()))
    with perhaps_cluster(words.ray) as nodes:
        command += ["--set", f"output={folder}", "--set", f"executor.workers={words.workers}"]
        if nodes:
            command += ["--executor", "ray", "--set", f"executor.address={nodes.address}"]
        kills, stages = disturbed(command, words, nodes, folder, seconds)
    print(json.dumps(tally(folder, plain, kills, stages)))
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
