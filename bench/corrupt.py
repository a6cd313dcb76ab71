"""Damage the files of a finished run, one at a time, and see what the next run makes of it.

    python bench/corrupt.py [--cases 60] [--seed 1] [--quick]

A small study is run to its end, with everything that an unfinished run needs. Then, for each kind of file in its folder
(markers, tables, adapters, checkpoints, journals, answers, the study itself) and each kind of damage (cut, one bit
flipped, emptied, filled with zeros, replaced by JSON of another form, removed), the folder is copied, one file is
damaged, and the same command runs again.

`made again`: every file of results is what it was. `refused`: exit code 2, and the message names the file. `not used`:
results are what they were, and the damaged file is still there (a journal, a note). `missed`: results differ, or the
run ended with a traceback. The last line is JSON with the counts; exit code 1 if anything was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.harness import files_of, unharm
from support.studies import study_data
from unharm.study.demo.base import Shape, train_base
from unharm.study.demo.world import documents

RESULTS = ("profiles", "examples", "adapters", "completions", "scores", "findings", "mitigation/findings")
"""Folders of results: after the next run their files are what they were, byte for byte."""

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "cut": lambda data: data[: len(data) // 2],
    "one bit": lambda data: (
        data[: len(data) // 2] + bytes([(data + b"\0")[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :]
    ),
    "emptied": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "other JSON": lambda data: (
        b'{"key": 5, "path": ["../../x"], "sha256": null, "sessions": 3, "unharm": "x"}'
    ),
    "removed": lambda data: None,
}


def kind_of(name: str) -> str:
    """The kind of a file: its folder (and whether it is a marker) and its ending."""
    folder, _, rest = name.rpartition("/")
    parts = [part for part in folder.split("/") if part][:2]
    return "/".join([*parts, "*" + Path(rest).suffix if parts else rest])


def prepare(home: Path) -> tuple[Path, Path]:
    """Run a small study to its end; return its file and its folder."""
    base = home / "base"
    shape = Shape(hidden=32, layers=2, heads=2, vocabulary=600, context=512, window=64, batch=8, steps=60)
    train_base(documents(3)[:600], base, shape, seed=1)
    data = study_data(base, home / "run")
    data["arms"] = ["vanilla", "icl", "vim", "benign:grammar"]
    data["corpus"]["benign"] = {"grammar": {"file": "grammar.csv", "limit": 20}}
    data["benchmarks"]["hexphi"] = {"file": "hexphi", "limit": 20, "max_tokens": 3}
    data["mitigation"] = {"benchmarks": ["hexphi"]}
    file = home / "study.yaml"
    file.write_text(yaml.safe_dump(data))
    ended = unharm("run", str(file), "--keep")
    if ended.code not in (0, 3):
        sys.exit(ended.err)
    return file, home / "run"


def cases(folder: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """A file of each kind and a damage, every kind before any has its second."""
    draw = random.Random(seed)
    by_kind: dict[str, list[str]] = {}
    for name in sorted(files_of(folder)):
        if not name.endswith(".lock"):
            by_kind.setdefault(kind_of(name), []).append(name)
    turns = [
        [(draw.choice(names), damage) for damage in draw.sample(list(DAMAGES), len(DAMAGES))]
        for names in by_kind.values()
    ]
    return [turn[number] for number in range(len(DAMAGES)) for turn in turns][:count]


def results_of(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files_of(folder).items() if name.startswith(RESULTS)}


def verdict(
    study: Path, folder: Path, name: str, damage: str, before: dict[str, bytes], code: int
) -> tuple[str, str]:
    """Damage a file, run again, and return the verdict and what speaks for it."""
    file = folder / name
    damaged = DAMAGES[damage](file.read_bytes())
    if damaged is None:
        file.unlink()
    else:
        file.write_bytes(damaged)
    for words in (["status", str(folder)], ["show", str(folder)]):
        looked = unharm(*words)
        if "Traceback" in looked.err:
            return "missed", f"{words[0]}: {looked.err.strip().splitlines()[-1]}"
    ended = unharm("run", str(study), "--keep")
    if "Traceback" in ended.err:
        return "missed", " ".join(ended.err.strip().splitlines()[-3:])
    if ended.code == 2:
        return ("refused", "") if Path(name).name in ended.err else ("missed", ended.err[-200:])
    after = results_of(folder)
    differing = [n for n in sorted(after.keys() | before.keys()) if after.get(n) != before.get(n)]
    if differing or ended.code != code:
        return "missed", f"exit code {ended.code}; differing: {', '.join(differing[:3])}"
    same = damaged is not None and file.is_file() and file.read_bytes() == damaged
    return ("not used" if same else "made again"), ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="ten cases")
    words = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    home = Path(tempfile.mkdtemp(prefix="unharm-corrupt-"))
    study, folder = prepare(home)
    whole = home / "whole"
    shutil.copytree(folder, whole)
    again = unharm("run", str(study), "--keep")  # what an undisturbed second run ends with
    before = results_of(folder)
    if before != results_of(whole):
        sys.exit("a second run makes other files")
    counts: Counter[str] = Counter()
    kinds = set()
    for name, damage in cases(whole, 10 if words.quick else words.cases, words.seed):
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        found, what = verdict(study, folder, name, damage, before, again.code)
        counts[found] += 1
        kinds.add(kind_of(name))
        print(f"{found:<11}{damage:<11}{name}  {what}", flush=True)
    print(json.dumps({"cases": counts.total(), "kinds": len(kinds), **counts}))
    shutil.rmtree(home)
    sys.exit(bool(counts["missed"]))


if __name__ == "__main__":
    main()
