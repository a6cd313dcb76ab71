"""How fast `unharm view` shows a run of a million completions, against scanning its files with polars.

    python bench/view.py [--quick] [--subjects 20] [--prompts 5000] [--shard 512]

The run is made up in the store's format: subjects × prompts × 10 samples of BeaverTails, each with the scores of two
scorers. A process of its own serves it, so that its memory is its own. Measured on the clock, at the client:

- start: from the start of the process to its first page, with imports, views and index;
- first page: the list of all prompts, asked for again;
- every filter of the list, the search for two words, one prompt across all arms;
- polars: the same question put to the same files with lazy scans, without an index.

The last line is JSON: completions, files, start_s, first_page_s, slowest_filter_s, slowest_filter_cpu_s (processor
time of the server for it: other work on the machine counts less), slowest_filter, prompt_s, memory_mib
(peak of the server), polars_s and polars_cpu_s (of the same filter as the slowest), within_targets (first page under 2 s, filters under
1 s, memory under 1 GB). --quick: larger files, so that making the run takes seconds.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import yaml

from unharm.core.files.yaml_text import SpecText
from unharm.core.pace import Dry
from unharm.core.values import VALUES
from unharm.runs.context import Run
from unharm.runs.plan import Plan
from unharm.runs.shards import all_shards
from unharm.runs.stages.scores import SCORES
from unharm.runs.views import COMPLETIONS, finished_files
from unharm.store.store import Store
from unharm.study.check import parse_study
from unharm.study.spec import Study

SAMPLES = 10
CATEGORIES = ("privacy", "theft", "violence", "slander")
WORDS = 2000
TEXTS = 4096
FILTERS: dict[str, str] = {
    "one arm": "arm=icl",
    "one profile": "profile=p1",
    "a category": "category=theft",
    "score range": "low=0.5&high=1",
    "change against vanilla": "change_low=0.5&sort=change",
    "scorers disagree": "disagree=1&sort=most",
    "without a score": "unscored=1",
    "incoherent": "incoherent=1",
    "two words": "text=w1{n}+w4{n}",
    "two words, one arm, a score": "text=w1{n}+w4{n}&arm=vanilla&low=0.5",
    "the last page": "page=100",
}


def study_of(folder: Path, subjects: int, prompts: int, shard: int) -> Study:
    """Write the inputs of the study and return it."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with (folder / "data" / "prompts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "category", "category_id"])
        writer.writerows(
            [f"made-up prompt number {n}", CATEGORIES[n % len(CATEGORIES)], n % len(CATEGORIES)]
            for n in range(prompts)
        )
    draw = np.random.default_rng(1)
    with (folder / "data" / "profiles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *VALUES])
        writer.writerows(
            [f"p{n}", *map(int, draw.integers(1, 7, len(VALUES)))] for n in range(subjects - 1)
        )
    data: dict[str, Any] = {
        "name": "million",
        "base": "toy",
        "data": str(folder / "data"),
        "output": str(folder / "run"),
        "profiles": [str(folder / "data" / "profiles.csv")],
        "arms": ["vanilla", "icl"],
        "engine": {"shard": shard},
        "benchmarks": {
            "beavertails": {
                "file": "prompts.csv", "samples": SAMPLES, "scorer": "offline-flagged", "also": ["offline-flagged-topic"],
            }
        },
    }  # fmt: skip
    return parse_study(SpecText(yaml.safe_dump(data), str(folder / "study.yaml")))


def open_run(study: Study) -> Run:
    """The run, whose base nobody needs."""
    return Run(study, Store(Path(str(study.output_location))), Plan(study), dry=Dry())


def write_run(study: Study) -> int:
    """Write completions and scores of every shard. Returns the number of completions."""
    run, draw = open_run(study), np.random.default_rng(7)
    pool = np.array(
        [" ".join(f"w{n}" for n in draw.integers(0, WORDS, 60)) for _ in range(TEXTS)], dtype=object
    )
    total = 0
    with run.store.lock(study.name):
        run.store.write_plain("study.json", study.model_dump_json())
        for shard in all_shards(run):
            rows = len(shard.prompts) * SAMPLES
            ids = [f"{n:032x}" for n in range(total, total + rows)]
            keys = {
                "completion_id": pl.Series(ids),
                "prompt_id": pl.Series(np.repeat([p.id for p in shard.prompts], SAMPLES)),
                "sample": pl.Series(np.tile(np.arange(SAMPLES), len(shard.prompts))),
            }
            texts = pl.Series(pool[draw.integers(0, TEXTS, rows)].tolist(), dtype=pl.String)
            completions = pl.DataFrame(keys | {"text": texts}).with_columns(
                finish=pl.lit("stop"), prompt_tokens=pl.lit(9), tokens=pl.lit(60), status=pl.lit("completed"),
                reason=pl.lit(""), options=pl.lit([], dtype=pl.List(pl.Float64)),
            )  # fmt: skip
            run.store.put_table(
                shard.completions, completions.select(pl.col(c).cast(t) for c, t in COMPLETIONS.items())
            )
            for artefact in shard.scored.values():
                chance = draw.random(rows)
                scored = chance >= 0.01
                frame = pl.DataFrame(keys).with_columns(
                    value=pl.Series(np.where(scored, (chance > 0.8).astype(float), np.nan)).fill_nan(None),
                    label=pl.lit(""), status=pl.Series(np.where(scored, "scored", "unscored")),
                    reason=pl.lit(""), raw=pl.lit(""), flag=pl.Series(np.where(chance > 0.98, "repetitive", "")), tokens=pl.lit(60),
                )  # fmt: skip
                run.store.put_table(artefact, frame.select(pl.col(c).cast(t) for c, t in SCORES.items()))
            total += rows
    return total


def serve(study: Study) -> None:
    """Serve the run until the process is ended; prints the address."""
    from unharm.view.server import Server
    from unharm.view.site import open_site

    run = open_run(study)
    site = open_site([Path(run.store.root)], run)
    with Server(site.get, site.post, 0) as server:
        print(server.address(), flush=True)
        server.serve_forever()


def polars_way(study: Study, name: str) -> Callable[[], object]:
    """The same question with lazy scans: the prompts that have a chosen completion, and how many."""
    run = open_run(study)
    files = finished_files(run)
    main = study.benchmarks.chosen()["beavertails"].scorer

    def scan(scorer: str, arm: str = "") -> pl.LazyFrame:
        return pl.concat(
            [
                pl.scan_parquet(f.path).with_columns(
                    arm=pl.lit(f.subject.arm), subject=pl.lit(f.subject.label)
                )
                for f in files
                if f.scorer == scorer and arm in ("", f.subject.arm)
            ]
        )

    def ask() -> object:
        arm = "vanilla" if "arm=vanilla" in FILTERS[name] else ""
        scores = scan(main, arm)
        if "low=" in FILTERS[name]:
            scores = scores.filter(pl.col("value") >= 0.5)
        if "disagree" in FILTERS[name]:
            other = scan("offline-flagged-topic").select("completion_id", other="value")
            scores = scores.join(other, on="completion_id").filter(
                (pl.col("value") >= 0.5) != (pl.col("other") >= 0.5)
            )
        if "change" in FILTERS[name]:
            bases = scan(main, "vanilla").group_by("prompt_id").agg(base=pl.col("value").mean())
            scores = scores.join(bases, on="prompt_id").filter(pl.col("value") - pl.col("base") >= 0.5)
        if "text=" in FILTERS[name]:
            words = pl.col("text").str.contains("(?i)w11") & pl.col("text").str.contains("(?i)w41")
            texts = scan("", arm).filter(words).select("completion_id")
            scores = scores.join(texts, on="completion_id", how="semi")
        return scores.group_by("prompt_id").agg(pl.len(), pl.col("value").mean()).collect()

    return ask


def varied(page: Callable[[str], Callable[[], object]], query: str) -> Callable[[], object]:
    """Ask for other words each time, since the results of a search are kept."""
    numbers = itertools.count(1)
    return lambda: page("/prompts?" + query.replace("{n}", str(next(numbers))))()


def timed(work: Callable[[], object], times: int = 3) -> float:
    """The median seconds of a piece of work."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="files of 4,096 completions")
    parser.add_argument("--subjects", type=int, default=20, help="vanilla and one per profile")
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--shard", type=int, default=512, help="completions per file")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    shard = 4096 if words.quick else words.shard
    if words.serve:
        serve(study_of(words.serve, words.subjects, words.prompts, shard))
        return
    with tempfile.TemporaryDirectory(prefix="unharm-view-") as name:
        measure(Path(name), words.subjects, words.prompts, shard)


def measure(folder: Path, subjects: int, prompts: int, shard: int) -> None:
    """Make the run, serve it, and print the figures."""
    study = study_of(folder, subjects, prompts, shard)
    began = time.perf_counter()
    count = write_run(study)
    files = len(finished_files(open_run(study)))
    print(
        f"{count:,} completions in {files:,} files, made in {time.perf_counter() - began:.0f} s", flush=True
    )
    command = [sys.executable, __file__, "--serve", str(folder), "--subjects", str(subjects)]
    command += ["--prompts", str(prompts), "--shard", str(shard)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        opener.open(address).read()
        figures: dict[str, Any] = {
            "completions": count,
            "files": files,
            "start_s": time.perf_counter() - began,
        }
        root = address.partition("/?")[0]

        def page(query: str) -> Callable[[], object]:
            return lambda: opener.open(f"{root}{query}").read()

        figures["first_page_s"] = timed(page("/prompts"))
        seconds, processor = {}, {}
        for title, query in FILTERS.items():
            before = processor_s(process.pid)
            seconds[title] = timed(varied(page, query))
            processor[title] = (processor_s(process.pid) - before) / 3
        figures["prompt_s"] = timed(page("/prompt?prompt=beavertails-1"))
        figures["memory_mib"] = peak_mib(process.pid)
    finally:
        process.terminate()
        process.wait()
    print(
        f"start {figures['start_s']:.2f} s, first page {figures['first_page_s']:.3f} s, one prompt {figures['prompt_s']:.3f} s"
    )
    for title, value in seconds.items():
        print(f"{title:>30} {value:8.3f} s, processor {processor[title]:.3f} s", flush=True)
    slowest = max(seconds, key=lambda title: seconds[title])
    before = time.process_time()
    polars = timed(polars_way(study, slowest), 1)
    polars_cpu = time.process_time() - before
    print(f"polars, {slowest}: {polars:.2f} s; memory of the server {figures['memory_mib']:.0f} MiB")
    figures |= {
        "slowest_filter": slowest,
        "slowest_filter_s": seconds[slowest],
        "polars_s": polars,
        "polars_cpu_s": polars_cpu,
    }
    figures["slowest_filter_cpu_s"] = processor[slowest]
    within = figures["first_page_s"] < 2 and seconds[slowest] < 1 and figures["memory_mib"] < 1000
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps(rounded | {"within_targets": bool(within)}))


def processor_s(pid: int) -> float:
    """The processor time of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def peak_mib(pid: int) -> float:
    """The most memory that a process has had, in MiB; now's where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return float(psutil.Process(pid).memory_info().rss) / 2**20


if __name__ == "__main__":
    main()
