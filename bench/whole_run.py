"""A whole run with 7.5 million simulated scores (or a share of them), analysed: seconds and memory.

`bench/findings.py --full` and `--size` use it.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from unharm.analysis.simulated_study import survey_like_profiles
from unharm.core.values import VALUES
from unharm.runs.shards import all_shards


def write_data(folder: Path, size: float) -> None:
    """Prompts in the formats of the benchmarks: a share of the paper's number."""
    rtp, hbr, hexphi, beavertails = (max(1, round(size * n)) for n in (3_000, 17_700, 30, 50))
    (folder / "rtp.csv").write_text("\n".join(f"Prompt number {n} goes on" for n in range(rtp)))
    with (folder / "hbr.jsonl").open("w") as file:
        for n in range(hbr):
            row = {"prompt_text": f"Group {n % 620} is known for {n}", "axis": f"axis {n % 8}"}
            row |= {
                "descriptor": f"kind {n % 620}",
                "formatted_noun_phrase": f"Group {n % 620}",
                "template": "t",
            }
            file.write(json.dumps(row) + "\n")
    (folder / "hexphi").mkdir()
    for c in range(1, 12):
        lines = "\n".join(f'"Request {n} of {c}"' for n in range(hexphi))
        (folder / "hexphi" / f"category_{c}_kind.csv").write_text(lines)
    with (folder / "beavertails.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "category", "category_id"])
        writer.writerows(
            [f"Question {n} of {c}", f"kind {c}", c] for c in range(14) for n in range(beavertails)
        )
    with (folder / "profiles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *VALUES])
        writer.writerows([f"profile {n}", *row] for n, row in enumerate(survey_like_profiles(1)[0]))


def simulated_values(benchmark: str, count: int, draw: np.random.Generator) -> np.ndarray:
    """Scores in the range of a benchmark, 1 % of them missing."""
    if benchmark == "rtp":
        values = draw.beta(0.5, 3, count)
    elif benchmark == "hexphi":
        values = draw.integers(1, 6, count).astype(float)
    else:
        values = (draw.random(count) < 0.1).astype(float)
    return np.where(draw.random(count) < 0.01, np.nan, values)


def full_size(folder: Path, size: float = 1.0) -> dict[str, Any]:
    """A run with 7.5 million simulated scores (or a share of them), analysed in a process of its own."""
    from unharm.runs.context import new_run
    from unharm.runs.stages.scores import SCORES
    from unharm.study.check import load_study

    write_data(folder, size)
    spec = {
        "name": "full", "base": "none", "data": str(folder), "output": str(folder / "run"),
        "profiles": [str(folder / "profiles.csv")], "arms": ["vanilla", "icl"],
        "engine": {"name": "openai", "server": {"url": "http://127.0.0.1:9/v1"}, "shard": 100_000},
        "benchmarks": {
            "rtp": {"file": "rtp.csv"}, "hbr": {"file": "hbr.jsonl"}, "hexphi": {"file": "hexphi"},
            "beavertails": {"file": "beavertails.csv"},
        },
    }  # fmt: skip
    (folder / "full.yaml").write_text(yaml.safe_dump(spec))
    run = new_run(load_study(str(folder / "full.yaml")))
    draw = np.random.default_rng(3)
    rows = 0
    for shard in all_shards(run):
        samples = run.study.benchmarks.chosen()[shard.benchmark].samples
        ids = [p.id for p in shard.prompts for _ in range(samples)]
        values = simulated_values(shard.benchmark, len(ids), draw)
        names = [f"{draw.integers(2**62):016x}{n:08d}" for n in range(len(ids))]
        sample = [n % samples for n in range(len(ids))]
        texts = pl.DataFrame(
            {"completion_id": names, "prompt_id": ids, "sample": sample, "text": ["x"] * len(ids)}
        )
        run.store.put_table(shard.completions, texts)
        scores = pl.DataFrame(
            {
                "completion_id": names, "value": pl.Series(values).fill_nan(None), "label": [""] * len(ids),
                "status": ["unscored" if np.isnan(v) else "scored" for v in values],
                "reason": ["simulated" if np.isnan(v) else "" for v in values], "raw": [""] * len(ids),
                "prompt_id": ids, "sample": sample, "flag": [""] * len(ids), "tokens": [1] * len(ids),
            },
            schema=SCORES,
        )  # fmt: skip
        run.store.put_table(shard.scores, scores, unanswered=0)
        rows += len(ids)
    run.store.write_plain("manifest.json", json.dumps({"unharm": "simulated"}))
    program = (
        "import sys, time, resource\n"
        "from unharm.runs.context import new_run\nfrom unharm.runs.stages.findings import make_findings\nfrom unharm.runs.stages.report import make_report\n"
        "from unharm.study.check import load_study\n"
        "run = new_run(load_study(sys.argv[1]))\n"
        "began = time.monotonic()\nmake_findings(run)\n"
        "print(time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
        "make_report(run)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder / "full.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    seconds, memory = (float(x) for x in done.stdout.split())
    size = (folder / "run" / "report.html").stat().st_size / 2**20
    print(f"{rows:,} scores of 155 subjects: findings in {seconds:.1f} s, {memory:,.0f} MiB at most")
    print(f"report of 154 profiles: {size:.1f} MiB")
    full = {"full_s": round(seconds, 1), "full_rows": rows, "full_mib": round(memory)}
    return full | {"report_mib": round(size, 2)}
