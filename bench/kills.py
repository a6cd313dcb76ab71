"""Kill a run at random moments, again and again, and count what was lost, done twice, or came out otherwise.

    python bench/kills.py quickstart --kills 30 --seed 1 [--ray] [--workers 2] [--set key=value ...]

The process that leads the run gets SIGTERM, SIGHUP or SIGKILL; a worker, or (with --ray) a node of a cluster of two,
gets SIGKILL. After SIGTERM and SIGHUP the process has to end by itself, with exit code 143 or 129. A node comes back, a
leading process is started again with the same command. In the end the run is compared with one that nobody
disturbed.

The last line is JSON: kills by kind; tasks; begun_again by stage (tasks that were on their way at a kill: adapters,
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
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.clusters import Nodes, cluster
from unharm.core.hashing import sha256_of
from unharm.store import journal
from unharm.store.store import Store

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
PARTS = ("completions", "scores", "adapters", "examples", "findings")


def workers_of(leading: subprocess.Popen[bytes], ray: bool) -> list[psutil.Process]:
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


def disturbed(
    command: list[str], words: argparse.Namespace, nodes: Nodes | None, folder: Path
) -> Counter[str]:
    """Runs to the end with so many kills; gives how many of each kind there were."""
    draw = random.Random(words.seed)
    kinds = ["driver", "worker", *(["node"] if nodes else [])]
    kills: Counter[str] = Counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    print(f"{'kill':>4}  {'after s':>7}  {'kind':<7} {'done':>5}")
    while kills.total() - kills["too slow"] < words.kills:
        wait = draw.uniform(words.shortest, words.longest)
        until = time.monotonic() + wait
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.05)
        if process.poll() is not None:
            if process.returncode not in (0, 3):
                assert process.stderr is not None
                sys.exit(
                    f"the run failed ({process.returncode}):\n{process.stderr.read().decode()[-3000:]}"
                )
            print("the run ended before the kill")
            break
        kind = draw.choice(kinds)
        if kind == "worker":
            mine = workers_of(process, nodes is not None)
            while not mine and process.poll() is None:  # it is still starting
                time.sleep(0.2)
                mine = workers_of(process, nodes is not None)
            if not mine:
                continue
            with contextlib.suppress(psutil.Error):
                draw.choice(sorted(mine, key=lambda p: p.pid)).kill()
        elif kind == "node" and nodes:
            nodes.tell("remove")
            nodes.tell("add")
        else:
            number = draw.choice(SIGNALS)
            process.send_signal(number)
            kind = number.name
            try:
                code = process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code, kills["too slow"] = 0, kills["too slow"] + 1
            if number != signal.SIGKILL and code not in (128 + number, -number, 0, 3):
                sys.exit(f"after {number.name} the run ended with {code}")
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        kills[kind] += 1
        done = sum(row["event"] == "done" for row in journal.events(Store(folder)))
        print(f"{kills.total():>4}  {wait:7.1f}  {kind:<7} {done:>5}", flush=True)
    told = process.communicate()[1].decode()
    if process.returncode not in (0, 3):
        sys.exit(f"the run failed ({process.returncode}):\n{told[-3000:]}")
    return kills


def tally(folder: Path, plain: Path, kills: Counter[str]) -> dict[str, object]:
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
        "kills": dict(kills),
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
    words = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    home = Path(tempfile.mkdtemp(prefix="unharm-kills-"))
    folder, plain = home / "run", home / "plain"
    command = [sys.executable, "-m", "unharm", "run", words.study, "--set", "training.save_every=2"]
    command += [part for change in words.set for part in ("--set", change)]
    alone = subprocess.run(
        [*command, "--set", f"output={plain}"], capture_output=True, text=True, check=False
    )
    if alone.returncode not in (0, 3):
        sys.exit(alone.stderr)
    with perhaps_cluster(words.ray) as nodes:
        command += ["--set", f"output={folder}", "--set", f"executor.workers={words.workers}"]
        if nodes:
            command += ["--executor", "ray", "--set", f"executor.address={nodes.address}"]
        kills = disturbed(command, words, nodes, folder)
    print(json.dumps(tally(folder, plain, kills)))
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
