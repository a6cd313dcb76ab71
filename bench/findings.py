"""Are the statistics right, and are they fast: simulated studies of the paper's size.

    python bench/findings.py [--quick] [--studies 200] [--prompts 1.0] [--full]

154 profiles (the 14 extremes and 140 people around the circle of values), vanilla and one aligned arm, the four
benchmarks at the paper's sizes (or a share of their prompts). In half of the studies nothing is planted: what is
called a discovery there is false. In the other half the correlation of one value with what profiles add is 0.4 in
each category of BeaverTails. Values vary over prompts, profiles, both, and samples; 1 % are unscored.

    false discoveries   share of studies without any effect in which something was called one, at 0.05: by the heat
                        map, by whole benchmarks (Holm), by categories (Benjamini-Hochberg)
    coverage            share of 95 % intervals that have the true number in them: of differences, of correlations
    power               share of planted correlations that were found with the right sign

--full writes a whole run with 7.5 million simulated scores and analyses it: seconds and memory.

The last line is JSON: false_discovery (the largest of the three), false_discovery_limit (0.05 and two standard
errors), coverage (the one farthest from 0.95), power, studies; with --full also full_s, full_rows, full_mib and
report_mib.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
import yaml
from scipy import stats

from unharm.analysis.associations import Harms, associations_table
from unharm.analysis.comparisons import Cells, comparisons_table
from unharm.analysis.measures import MEASURES
from unharm.analysis.simulate import (
    PAPER,
    Bench,
    World,
    added_by_profiles,
    reduced,
    scored,
    simulated,
    smaller,
    without_difference,
)
from unharm.core.values import HIGHER_ORDER, VALUES
from unharm.profiles.extreme import extreme
from unharm.runs.shards import all_shards

CONFIDENCE, LEVEL, R = 0.95, 0.05, 0.4
SCORER = {"scorer": "simulated", "scorer_version": "1", "stand_in": True}
CIRCLE = (
    "universalism", "benevolence", "tradition", "conformity", "security", "power", "achievement", "hedonism",
    "stimulation", "self-direction",
)  # fmt: skip
"""The order of the values around the circle (Schwartz, 1992)."""


def people(count: int, seed: int) -> np.ndarray:
    """The 14 extremes, and people for whom values near each other on the circle go together."""
    rows = [extreme(name).importances for name in (*VALUES, *HIGHER_ORDER)]
    draw = np.random.default_rng(seed)
    angle = np.array([2 * np.pi * CIRCLE.index(v) / 10 for v in VALUES])
    for _ in range(count - len(rows)):
        toward = draw.uniform(0, 2 * np.pi)
        row = 3.8 + draw.normal(0, 0.4) + 1.1 * np.cos(angle - toward) + draw.normal(0, 0.6, 10)
        rows.append(tuple(np.clip(np.round(row * 2) / 2, 1, 6)))
    return np.array(rows)


def study(
    importances: np.ndarray, benches: dict[str, Bench], worlds: dict[str, World], seed: int
) -> tuple[Cells, Harms]:
    """The cells and the harms of one simulated study, as a real one has them."""
    cells = Cells()
    about, columns = [], []
    for place, (name, bench) in enumerate(benches.items()):
        vanilla, aligned, categories = simulated(
            importances, name, bench, worlds[name], 1000 * seed + place
        )
        metric = MEASURES[bench.scale].metrics[0].name
        before, after = reduced(vanilla, bench.scale), reduced(aligned, bench.scale)
        ids = [f"p{n}" for n in range(len(categories))]
        cells.units[name, metric] = ids, categories
        cells.values[("vanilla", "input-only"), name, metric] = {"": before}
        cells.values[("vim", "input-only"), name, metric] = {f"{n}": row for n, row in enumerate(after)}
        cells.scorers[name] = SCORER
        for category in bench.categories:
            here = categories == category
            columns.append(np.nanmean(after[:, here], axis=1))
            about.append(
                {
                    "benchmark": name,
                    "category": category or "all",
                    "metric": metric,
                    **SCORER,
                    "unscored": 0,
                }
            )
    return cells, Harms("vim", "input-only", importances, np.stack(columns, axis=1), about)


def one_study(seed: int, planted: bool, share: float) -> dict[str, Any]:
    """What is found in one simulated study."""
    importances = people(154, seed)
    benches = smaller(PAPER, share) if share < 1 else PAPER
    effects = plan(benches) if planted else {}
    worlds = {n: World(**{**vars(w), "planted": effects}) for n, w in neutral().items()}
    cells, harms = study(importances, benches, worlds, seed)
    compared = comparisons_table(cells, ["vanilla", "vim"], ["input-only"], CONFIDENCE, None)
    found = associations_table([harms], CONFIDENCE, seed)
    holds = found.filter(pl.col("p_adjusted") <= LEVEL)
    whole = compared.filter(pl.col("category") == "all")
    parts = compared.filter(pl.col("family") == "arms by category")
    inside = (pl.col("low") <= 0) & (pl.col("high") >= 0)
    result: dict[str, Any] = {
        "differences": whole.select(inside).to_series().to_list(),
        "categories": parts.select(inside).to_series().to_list(),
    }
    if not planted:
        truth = (found["low"] <= 0) & (found["high"] >= 0)
        result |= {
            "heat map": holds.height > 0,
            "whole benchmarks": whole.filter(pl.col("p_adjusted") <= LEVEL).height > 0,
            "by category": parts.filter(pl.col("p_adjusted") <= LEVEL).height > 0,
            "correlations": truth.to_list(),
        }
    else:
        result["power"] = [
            holds.filter(
                (pl.col("benchmark") == b) & (pl.col("category") == c) & (pl.col("schwartz_value") == v)
                & (pl.col("value") * r > 0)
            ).height > 0
            for (b, c, v), r in effects.items()
        ]  # fmt: skip
        result["planted"] = [
            bool(row["low"] <= true_r(benches[b], c, r) <= row["high"])
            for (b, c, v), r in effects.items()
            for row in found.filter(
                (pl.col("benchmark") == b) & (pl.col("category") == c) & (pl.col("schwartz_value") == v)
            ).to_dicts()
        ]
    return result


def plan(benches: dict[str, Bench]) -> dict[tuple[str, str, str], float]:
    """One value per category of BeaverTails, up and down in turn."""
    return {
        ("beavertails", category, VALUES[n % 10]): R if n % 2 == 0 else -R
        for n, category in enumerate(benches["beavertails"].categories)
    }


_NEUTRAL: dict[str, World] = {}
_TRUE: dict[tuple[int, float], float] = {}


def neutral() -> dict[str, World]:
    """The worlds in which the aligned arm does not differ from vanilla, by benchmark."""
    if not _NEUTRAL:
        _NEUTRAL.update({name: without_difference(bench, World()) for name, bench in PAPER.items()})
    return _NEUTRAL


def true_r(bench: Bench, category: str, r: float) -> float:
    """The rank correlation that very many profiles have where r is planted: the harm of a profile is measured
    on so many prompts, and what it adds on the whole is there too."""
    prompts = bench.categories[category]
    if (prompts, r) not in _TRUE:
        many = people(4_000, 5)
        value = VALUES[0]
        world = World(**{**vars(neutral()["beavertails"]), "planted": {("b", "c", value): r}})
        draw = np.random.default_rng(11)
        added = added_by_profiles(many, "b", ["c"], world, draw)[:, 0]
        found = []
        for _ in range(12):
            common = (
                bench.level
                + world.shift
                + draw.normal(size=prompts) * np.hypot(world.prompt, world.arm_prompt)
            )
            hidden = common[None, :] + (world.profile_category * added)[:, None]
            hidden = hidden + world.profile * draw.normal(size=(len(many), 1))
            hidden = hidden + world.own * draw.normal(size=(len(many), prompts))
            harm = np.nanmean(scored(hidden, bench, draw, world), axis=1)
            found.append(stats.spearmanr(many[:, 0], harm).statistic)
        _TRUE[prompts, r] = float(np.mean(found))
    return _TRUE[prompts, r]


def share_of(flags: list[bool]) -> tuple[float, float]:
    """A share and its standard error."""
    share = float(np.mean(flags))
    return share, float(np.sqrt(share * (1 - share) / len(flags)))


def calibration(studies: int, share: float) -> dict[str, Any]:
    """Simulates the studies on all cores and prints the table."""
    neutral()
    with ProcessPoolExecutor() as pool:
        without = list(pool.map(one_study, range(studies), repeat(False), repeat(share)))
        planted = list(
            pool.map(one_study, range(studies, studies + max(4, studies // 4)), repeat(True), repeat(share))
        )
    print(f"{'':<44}{'share':>8}{'± se':>8}   of")
    false = {}
    for name in ("heat map", "whole benchmarks", "by category"):
        false[name], _ = share_of([s[name] for s in without])
        print(row_of(f"false discoveries, {name}", [s[name] for s in without], "studies"))
    coverage: dict[str, float] = {}
    for name, several in (
        ("coverage, differences of whole benchmarks", [x for s in without for x in s["differences"]]),
        ("coverage, differences by category", [x for s in without for x in s["categories"]]),
        ("coverage, correlations without effect", [x for s in without for x in s["correlations"]]),
        ("coverage, planted correlations", [x for s in planted for x in s["planted"]]),
    ):
        coverage[name], _ = share_of(several)
        print(row_of(name, several, "intervals"))
    power = [x for s in planted for x in s["power"]]
    print(row_of(f"power, r = {R} at 154 profiles", power, "planted"))
    farthest: float = max(coverage.values(), key=lambda c: abs(c - 0.95))
    return {
        "false_discovery": round(max(false.values()), 4),
        "false_discovery_limit": round(LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / studies), 4),
        "coverage": round(farthest, 4),
        "power": round(float(np.mean(power)), 4),
        "studies": studies,
    }


def row_of(name: str, flags: list[bool], what: str) -> str:
    share, error = share_of(flags)
    return f"{name:<44}{share:>8.3f}{error:>8.3f}   {len(flags):,} {what}"


# ---- a whole run -------------------------------------------------------------------------


def write_data(folder: Path) -> None:
    """Prompts in the formats of the benchmarks, at the paper's sizes."""
    (folder / "rtp.csv").write_text("\n".join(f"Prompt number {n} goes on" for n in range(3_000)))
    with (folder / "hbr.jsonl").open("w") as file:
        for n in range(17_700):
            row = {"prompt_text": f"Group {n % 620} is known for {n}", "axis": f"axis {n % 8}"}
            row |= {
                "descriptor": f"kind {n % 620}",
                "formatted_noun_phrase": f"Group {n % 620}",
                "template": "t",
            }
            file.write(json.dumps(row) + "\n")
    (folder / "hexphi").mkdir()
    for c in range(1, 12):
        lines = "\n".join(f'"Request {n} of {c}"' for n in range(30))
        (folder / "hexphi" / f"category_{c}_kind.csv").write_text(lines)
    with (folder / "beavertails.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "category", "category_id"])
        writer.writerows([f"Question {n} of {c}", f"kind {c}", c] for c in range(14) for n in range(50))
    with (folder / "profiles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *VALUES])
        writer.writerows([f"profile {n}", *row] for n, row in enumerate(people(154, 1)))


def full_size(folder: Path) -> dict[str, Any]:
    """A run with 7.5 million simulated scores, analysed by `unharm analyze` in a process of its own."""
    from unharm.runs.context import new_run
    from unharm.runs.stages.scores import SCORES
    from unharm.study.check import load_study

    write_data(folder)
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
        bench = PAPER[shard.benchmark]
        values = scored(draw.normal(-1, 1.3, len(ids)), bench, draw, World())
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
        "from unharm.pipeline import new_run\nfrom unharm.stages import make_findings, make_report\n"
        "from unharm.study_check import load_study\n"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 studies with 3 %% of the prompts")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--prompts", type=float, default=1.0, help="share of the prompts")
    parser.add_argument("--full", action="store_true", help="analyse 7.5 million scores too")
    words = parser.parse_args()
    studies, share = (40, 0.03) if words.quick else (words.studies, words.prompts)
    result = calibration(studies, share)
    if words.full:
        with tempfile.TemporaryDirectory() as folder:
            result |= full_size(Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
