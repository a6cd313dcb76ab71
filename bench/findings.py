"""Do the statistics hold what they say: simulated studies with rare harm, near copies and seeds.

    python bench/findings.py [--quick] [--studies 200] [--full] [--size 0.1]

Every study has 154 profiles (14 extremes with 10 near copies each), vanilla with one sample per prompt, one aligned
arm, and three benchmarks in categories: 14 × 50 prompts flagged or not, 11 × 30 prompts judged 1 to 5, 8 × 150
prompts with negative regard. Regimes: base rates of harm of 1, 3, 10 and 30 %; near copies that share 0, 20 or 50 % of
their deviation; one seed, or three seeds that move all adapters by 0 or 20 %. The judge misses a tenth of the harm
and raises false alarms in 0.5 %; 1 % of harmless and 4 % of harmful answers stay unscored. See
`unharm.analysis.simulated_study`.

    false discovery   share of studies without any effect in which a table claims something, at 0.05: the heat map,
                      categories and whole benchmarks against vanilla, regressions, hypotheses
    coverage          share of 95 % intervals that have the true number in them, by kind of interval
    power             share of planted rank correlations (latent r = 0.4) that the heat map finds; beside it that of a
                      plain permutation test, which is valid only where near copies share nothing

--full writes a whole run with 7.5 million simulated scores and analyses it: seconds and memory. --size does so
alone, with that share of the prompts.

With --quick the false discoveries of all regimes are counted together, since six studies of one say nothing; without
it each regime is counted alone.

The last line is JSON: worst_false_discovery, worst_coverage_low, worst_coverage_high, power_r04 by regime, studies;
seconds is the time that passed, cpu_seconds what one free core would need.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
import yaml

from unharm.analysis.associations import (
    Harms,
    associations_table,
    hypotheses_table,
    regressions_table,
)
from unharm.analysis.clustered_ranks import standard_ranks
from unharm.analysis.comparisons import Cells, comparisons_table
from unharm.analysis.hypotheses import Hypothesis
from unharm.analysis.intervals import adjusted
from unharm.analysis.measures import FIRST_METRICS
from unharm.analysis.paired import means
from unharm.analysis.settings import Analysis
from unharm.analysis.simulated_study import (
    Regime,
    SimulatedBench,
    simulate_bench,
    survey_like_profiles,
)
from unharm.core.values import VALUES
from unharm.runs.shards import all_shards

LEVEL, R = 0.05, 0.4
SCORER = {"scorer": "simulated", "scorer_version": "1", "stand_in": True}
BENCHES = {
    "beavertails": SimulatedBench("flagged", {f"kind {n}": 50 for n in range(14)}),
    "hexphi": SimulatedBench("harmfulness", {f"kind {n}": 30 for n in range(11)}),
    "hbr": SimulatedBench("negative_regard", {f"axis {n}": 150 for n in range(8)}),
}
MADE, PLAIN = ("vim", "input-only"), ("vanilla", "input-only")
CLAIMS = tuple(
    Hypothesis(f"{value} {n}", value, "+" if n % 2 else "-", "harm", (("beavertails", (f"kind {n}",)),))
    for n, value in enumerate((*VALUES, *VALUES[:4]))
)
"""Stated hypotheses, none of them true in a null study."""
PLANTED = {("beavertails", f"kind {n}", VALUES[n % 10]): R * (-1) ** n for n in range(14)}
"""A correlation in each category of BeaverTails, up and down in turn."""
PROFILE_SETS = 4


def regimes(quick: bool) -> Iterator[tuple[str, Regime]]:
    """The regimes by name; `quick` leaves out the middle ones."""
    for base in (0.01, 0.1, 0.3) if quick else (0.01, 0.03, 0.1, 0.3):
        for share in (0.0, 0.5) if quick else (0.0, 0.2, 0.5):
            for seeds, effect in ((1, 0.0), (3, 0.2)) if quick else ((1, 0.0), (3, 0.0), (3, 0.2)):
                name = f"harm {base:.0%}, shared {share:.0%}, {seeds} seed{'s' if seeds > 1 else ''}"
                name += f" ± {effect:.0%}" if seeds > 1 else ""
                yield (
                    name,
                    Regime(vanilla_samples=1, base=base, share=share, seeds=seeds, seed_effect=effect),
                )


@dataclass(frozen=True)
class Study:
    """The cells and harms of a simulated study, and the true mean of every benchmark and category of the
    aligned arm and of vanilla."""

    cells: Cells
    harms: Harms
    truth: dict[tuple[str, str], tuple[float, float]]


_PROFILES: dict[int, tuple[np.ndarray, list[str]]] = {}


def profiles_of(number: int) -> tuple[np.ndarray, list[str]]:
    if number not in _PROFILES:
        _PROFILES[number] = survey_like_profiles(number)
    return _PROFILES[number]


def simulated(regime: Regime, seed: int) -> Study:
    """One study."""
    importances, targets = profiles_of(seed % PROFILE_SETS)
    cells, truth = Cells(), {}
    labels: list[dict[str, Any]] = []
    columns = []
    names = [f"x{n}" for n in range(len(targets))]
    cells.targets = dict(zip(names, targets, strict=True))
    for place, (name, bench) in enumerate(BENCHES.items()):
        simulated_measure = replace(
            bench, measure="harmfulness" if bench.measure == "harmfulness" else "flagged"
        )
        scores = simulate_bench(importances, targets, name, simulated_measure, regime, 1000 * seed + place)
        metric = FIRST_METRICS[bench.measure]
        cells.units[name, metric] = [f"p{n}" for n in range(len(scores.categories))], scores.categories
        cells.values[PLAIN, name, metric] = {("", 0): np.nanmean(scores.vanilla, axis=1)}
        cells.values[MADE, name, metric] = {
            (names[p], s): scores.aligned[p, s] for p in range(len(names)) for s in range(regime.seeds)
        }
        cells.scorers[name] = SCORER
        sizes = list(bench.categories.values())
        both = [list(t.values()) for t in (scores.true_aligned, scores.true_vanilla)]
        truth[name, "all"] = (
            float(np.average(both[0], weights=sizes)),
            float(np.average(both[1], weights=sizes)),
        )
        for number, category in enumerate(bench.categories):
            truth[name, category] = both[0][number], both[1][number]
            columns.append(np.nanmean(scores.aligned[:, :, scores.categories == category], axis=2))
            labels.append(
                {"benchmark": name, "category": category, "metric": metric, **SCORER, "unscored": 0}
            )
    by_seed = np.stack(columns, axis=2).transpose(1, 0, 2)
    harms = Harms("vim", "input-only", importances, by_seed.mean(axis=0), labels, tuple(targets))
    return Study(cells, harms, truth)


def null_study(regime: Regime, seed: int) -> dict[str, list[bool]]:
    """What the tables claim of a study without any effect, and which intervals have the truth in them."""
    study, analysis = simulated(regime, seed), Analysis()
    compared = comparisons_table(study.cells, ["vanilla", "vim"], ["input-only"], analysis)
    related = associations_table([study.harms], analysis.confidence, seed)
    axes = regressions_table([study.harms], analysis.confidence).filter(pl.col("model") == "axes")
    claims = hypotheses_table([study.harms], CLAIMS, analysis.confidence, LEVEL, seed)
    found: dict[str, list[bool]] = defaultdict(list)
    families = {"categories": "arms by category", "whole benchmarks": "arms"}
    for name, family in families.items():
        found[f"false {name}"] = [
            bool((compared.filter(pl.col("family") == family)["p_adjusted"] <= LEVEL).any())
        ]
    found["false heat map"] = [bool((related["p_adjusted"] <= LEVEL).any())]
    found["false regressions"] = [bool((axes["p_adjusted"] <= LEVEL).any())]
    found["false hypotheses"] = [bool(claims["verdict"].is_in(["supported", "contradicted"]).any())]
    for row in compared.to_dicts():
        one, other = study.truth[row["benchmark"], row["category"]]
        kind = "differences, whole" if row["category"] == "all" else "differences, category"
        inside = row["low"] <= one - other <= row["high"]
        found[f"cover {kind}"].append(inside)
        floor = 1.0 if row["metric"] == "harmfulness" else 0.0
        if row["value_reference"] <= floor + 1e-9:
            found["cover differences where vanilla shows 0"].append(inside)
    for (benchmark, metric), (_, categories) in study.cells.units.items():
        names = list(BENCHES[benchmark].categories)
        bounds = (1.0, 5.0) if metric == "harmfulness" else (0.0, 1.0)
        for made, place in ((MADE, 0), (PLAIN, 1)):
            rows = study.cells.rows(made, benchmark, metric)
            whole = means(rows, [np.ones(len(categories), dtype=bool)], bounds, analysis.confidence)
            parts = means(rows, [categories == n for n in names], bounds, analysis.confidence)
            for name, mean in zip(["all", *names], whole + parts, strict=True):
                kind = "whole" if name == "all" else "1 to 5, category" if bounds[1] > 1 else "category"
                assert mean.low is not None
                assert mean.high is not None
                truth = study.truth[benchmark, name][place]
                found[f"cover {made[0]}, {kind}"].append(mean.low <= truth <= mean.high)
    inside = related.select((pl.col("low") <= 0) & (pl.col("high") >= 0)).to_series()
    found["cover correlations"] = inside.drop_nulls().to_list()
    inside = related.select((pl.col("partial_low") <= 0) & (pl.col("partial_high") >= 0)).to_series()
    found["cover partial correlations"] = inside.drop_nulls().to_list()
    inside = axes.select((pl.col("low") <= 0) & (pl.col("high") >= 0)).to_series()
    found["cover slopes on axes"] = inside.drop_nulls().to_list()
    return dict(found)


def planted_study(regime: Regime, seed: int) -> dict[str, list[bool]]:
    """Which planted correlations the heat map finds, and which a plain permutation test of ranks finds."""
    study = simulated(replace(regime, planted=PLANTED), seed)
    related = associations_table([study.harms], 0.95, seed)
    known = {(r["benchmark"], r["category"], r["schwartz_value"]): r for r in related.to_dicts()}
    plain = plain_permutation(study.harms, seed)
    found: dict[str, list[bool]] = {"power": [], "plain": []}
    for at, r in PLANTED.items():
        row = known[at]
        hit = row["p_adjusted"] is not None and row["p_adjusted"] <= LEVEL
        found["power"].append(hit and row["value"] * r > 0)
        found["plain"].append(plain[at] <= LEVEL)
    return found


def plain_permutation(harms: Harms, seed: int, orders: int = 4_000) -> dict[tuple[str, str, str], float]:
    """Adjusted p of Spearman's correlation by permuting profiles, the tail beyond the permutations by the normal
    distribution of the permuted sums."""
    from scipy import stats

    x, y = standard_ranks(harms.importances), standard_ranks(harms.values)
    draw = np.random.default_rng(seed)
    n = len(x)
    observed = x.T @ y
    beyond = np.ones(observed.shape)
    for _ in range(orders // 500):
        for order in draw.permuted(np.tile(np.arange(n), (500, 1)), axis=1):
            beyond += np.abs(x[order].T @ y) >= np.abs(observed)
    p = beyond / (orders + 1)
    tail = 2 * stats.norm.sf(np.abs(observed) / np.sqrt(n * n / (n - 1)))
    p = np.where(beyond <= 20, np.minimum(tail, 20 / orders), p)
    flat = adjusted([float(v) for v in p.ravel()])
    shape = dict(zip(np.ndindex(*p.shape), flat, strict=True))
    return {
        (label["benchmark"], label["category"], value): shape[i, j]
        for j, label in enumerate(harms.labels)
        for i, value in enumerate(VALUES)
    }


def joined(several: list[dict[str, list[bool]]]) -> dict[str, tuple[float, int]]:
    """The share and the number of flags of each kind over some studies."""
    flags: dict[str, list[bool]] = defaultdict(list)
    for one in several:
        for name, some in one.items():
            flags[name] += some
    return {name: (float(np.mean(some)), len(some)) for name, some in flags.items() if some}


def calibration(studies: int, quick: bool, workers: int) -> dict[str, Any]:
    """Simulate the studies of every regime and print a line per regime and kind."""
    worst: dict[str, tuple[float, str]] = {}
    together: dict[str, list[float]] = defaultdict(list)
    low: dict[str, tuple[float, str, int]] = {}
    high: dict[str, tuple[float, str, int]] = {}
    power: dict[str, float] = {}
    plain: dict[str, float] = {}
    began = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        for place, (name, regime) in enumerate(regimes(quick)):
            seeds = range(10_000 * place, 10_000 * place + studies)
            chunk = max(1, studies // (4 * workers))
            found = joined(list(pool.map(null_study, repeat(regime), seeds, chunksize=chunk)))
            print(f"{name}  ({time.monotonic() - began:.0f} s)", flush=True)
            for kind, (share, count) in found.items():
                if kind.startswith("false"):
                    worst[kind] = max(worst.get(kind, (-1.0, "")), (share, name))
                    together[kind].append(share)
                elif count >= 100:
                    low[kind] = min(low.get(kind, (2.0, "", 0)), (share, name, count))
                    high[kind] = max(high.get(kind, (-1.0, "", 0)), (share, name, count))
                print(f"    {kind:<46}{share:>7.3f}  of {count:,}")
            if regime.seeds == 1:
                more = range(10_000 * place + 5_000, 10_000 * place + 5_000 + max(2, studies // 4))
                hits = joined(list(pool.map(planted_study, repeat(regime), more, chunksize=chunk)))
                power[name.removesuffix(", 1 seed")] = round(hits["power"][0], 3)
                plain[name.removesuffix(", 1 seed")] = round(hits["plain"][0], 3)
                print(
                    f"    power {hits['power'][0]:.3f}, plain permutation {hits['plain'][0]:.3f} of {hits['power'][1]}"
                )
    print(f"\n{'worst case over the regimes':<50}{'lowest':>8}{'highest':>9}")
    if quick:  # so few studies of a regime say nothing: all regimes together
        worst = {
            kind: (float(np.mean(shares)), "all regimes together") for kind, shares in together.items()
        }
        studies *= len(next(iter(together.values())))
    for kind, (share, name) in worst.items():
        print(f"{kind:<50}{'':>8}{share:>9.3f}   {name}")
    for kind in low:
        print(f"{kind:<50}{low[kind][0]:>8.3f}{high[kind][0]:>9.3f}   {low[kind][1]} / {high[kind][1]}")
    return {
        "worst_false_discovery": round(max(s for s, _ in worst.values()), 4),
        "false_discovery_limit": round(LEVEL + 2 * float(np.sqrt(LEVEL * (1 - LEVEL) / studies)), 4),
        "worst_coverage_low": round(min(s for s, _, _ in low.values()), 4),
        "worst_coverage_high": round(max(s for s, _, _ in high.values()), 4),
        "power_r04": power,
        "power_plain_permutation": plain,
        "studies": studies,
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(cpu_seconds()),
    }


def cpu_seconds() -> float:
    """Processor time of this process and of its workers that have ended."""
    several = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in several)


# ---- a whole run -------------------------------------------------------------------------


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few studies of half of the regimes")
    parser.add_argument("--studies", type=int, default=200, help="null studies per regime")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--full", action="store_true", help="analyse 7.5 million scores too")
    parser.add_argument("--size", type=float, help="only analyse this share of 7.5 million scores")
    words = parser.parse_args()
    if words.size:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(full_size(Path(folder), words.size)))
        return
    result = calibration(6 if words.quick else words.studies, words.quick, words.workers)
    if words.full:
        with tempfile.TemporaryDirectory() as folder:
            result |= full_size(Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
