"""Kill a run at random moments, resume it, and count what was done twice.

    python bench/kills.py quickstart --kills 3 --seed 1 [--set key=value ...]

Prints a table and, as its last line, JSON: kills, tasks, begun_twice (tasks that were on their way at a
kill; what was completed of them before it is kept), finished_twice (must be 0), completions,
unique_completions, unreadable (must be 0).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import polars as pl


def rows(folder: Path) -> list[dict[str, str]]:
    """The lines of the journal; one that a kill has cut is left out."""
    file = folder / "journal.jsonl"
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def events(folder: Path, event: str) -> Counter[str]:
    """How often each task (path and key) has this event in the journal, without the report."""
    return Counter(
        f"{r['stage']} {r['path']} {r['key']}"
        for r in rows(folder)
        if r["event"] == event and r["stage"] != "report"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=40.0, help="most seconds until a kill")
    parser.add_argument("--set", action="append", default=[])
    words = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="unharm-kills-")) / "run"
    command = [sys.executable, "-m", "unharm", "run", words.study, "--set", f"output={folder}"]
    command += [part for change in words.set for part in ("--set", change)]
    draw = random.Random(words.seed)
    kills = 0
    print(f"{'kill':>4}  {'after s':>7}  {'done':>5}  in flight")
    for number in range(words.kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait = draw.uniform(6.0, words.longest)
        time.sleep(wait)
        if process.poll() is not None:
            print("the run ended before the kill")
            break
        process.kill()
        process.wait()
        kills += 1
        last = rows(folder)[-1:]
        flying = [r["path"] for r in last if r["event"] == "begin"]
        print(f"{number + 1:>4}  {wait:7.1f}  {events(folder, 'done').total():>5}  {', '.join(flying)}")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 3):
        sys.exit(result.stderr)
    begun, done = events(folder, "begin"), events(folder, "done")
    unreadable = 0
    frames = []
    for file in (folder / "completions").rglob("*.parquet"):
        try:
            frames.append(pl.read_parquet(file, columns=["completion_id"]))
        except (OSError, pl.exceptions.PolarsError):
            unreadable += 1
    ids = pl.concat(frames)["completion_id"]
    tally = {
        "kills": kills,
        "tasks": len(done),
        "begun_twice": sum(begun.values()) - len(begun),
        "finished_twice": sum(done.values()) - len(done),
        "completions": len(ids),
        "unique_completions": ids.n_unique(),
        "unreadable": unreadable,
    }
    print(json.dumps(tally))


if __name__ == "__main__":
    main()
