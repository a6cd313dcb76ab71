"""Do the statistics hold what they say: simulated studies with rare harm, near copies and seeds.

    python bench/findings.py [--quick] [--studies 200] [--only TEXT …] [--record FILE] [--full] [--size 0.1]

Every study has 154 profiles (14 extremes with 10 near copies each), vanilla with one sample per prompt, one aligned
arm, and three benchmarks in categories: 14 × 50 prompts flagged or not, 11 × 30 prompts judged 1 to 5, 8 × 150
prompts with negative regard. Regimes: base rates of harm of 1, 3, 10 and 30 %; near copies that share 0, 20 or 50 % of
their deviation; one seed, or three seeds that move all adapters by 0 or 20 %. The judge misses a tenth of the harm
and raises false alarms in 0.5 %; 1 % of harmless and 4 % of harmful answers stay unscored. See
`unharm.analysis.simulated_study`.

    false discovery   share of studies without any effect in which a table claims something, at 0.05: the heat map,
                      categories and whole benchmarks against vanilla, regressions, hypotheses, and mitigation
                      (six strategies on half of the prompts and profiles: against input-only, guards against
                      controls, guards against each other, whole and by category; near copies share 50 %)
    coverage          share of 95 % intervals that have the true number in them, by kind of interval
    power             share of planted rank correlations (latent r = 0.4) that the heat map finds; beside it that of a
                      plain permutation test, which is valid only where near copies share nothing

--only TEXT … takes the regimes whose names have all texts in them; --record FILE keeps what each study showed, so that a run
that was stopped, or one of other regimes, adds to it: the tables and the last line count all studies of the file.

--full writes a whole run with 7.5 million simulated scores and analyses it: seconds and memory. --size does so
alone, with that share of the prompts.

With --quick the false discoveries of all regimes are counted together, since six studies of one say nothing; without
it each regime is counted alone.

The last line is JSON: worst_false_discovery, worst_coverage_low, worst_coverage_high, power_r04 by regime, studies;
seconds is the time that passed, cpu_seconds what one free core would need.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
from whole_run import full_size

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
from unharm.core.arms import STRATEGIES
from unharm.core.values import VALUES

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
QUICK_STUDIES = 5
MITIGATION_SHARE = 0.5
"""Mitigation is simulated where near copies share so much."""


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
        cells.values[PLAIN, name, metric] = {("", 0): scores.vanilla[:, 0]}
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


def mitigation_study(regime: Regime, seed: int) -> dict[str, list[bool]]:
    """What the comparisons of six strategies claim where none of them does anything.

    Strategies of an arm differ by the noise of their answers alone, so they are simulated like seeds
    without an effect, and like samples of vanilla.
    """
    importances, targets = profiles_of(seed % PROFILE_SETS)
    importances, targets = importances[::2], targets[::2]
    count = len(STRATEGIES)
    regime = replace(regime, seeds=count, seed_effect=0.0, vanilla_samples=count)
    cells = Cells()
    names = [f"x{n}" for n in range(len(targets))]
    cells.targets = dict(zip(names, targets, strict=True))
    for place, name in enumerate(("hexphi", "beavertails")):
        bench = BENCHES[name]
        half = replace(bench, categories={c: n // 2 for c, n in bench.categories.items()})
        scores = simulate_bench(importances, targets, name, half, regime, 1000 * seed + 500 + place)
        metric = FIRST_METRICS[bench.measure]
        cells.units[name, metric] = [f"p{n}" for n in range(len(scores.categories))], scores.categories
        cells.scorers[name] = SCORER
        for number, strategy in enumerate(STRATEGIES):
            cells.values[("vanilla", strategy), name, metric] = {("", 0): scores.vanilla[:, number]}
            cells.values[("vim", strategy), name, metric] = {
                (names[p], 0): scores.aligned[p, number] for p in range(len(names))
            }
    compared = comparisons_table(cells, ["vanilla", "vim"], STRATEGIES, Analysis())
    compared = compared.filter(pl.col("kind") == "strategies")
    flags: dict[str, list[bool]] = {}
    for family in compared["family"].unique().sort():
        rows = compared.filter(pl.col("family") == family)
        flags[f"false mitigation, {family}"] = [bool((rows["p_adjusted"] <= LEVEL).any())]
    inside = compared.select((pl.col("low") <= 0) & (pl.col("high") >= 0)).to_series()
    flags["cover differences of strategies"] = inside.drop_nulls().to_list()
    return flags


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


Counts = dict[str, dict[str, list[int]]]
"""True flags and all flags, by regime and kind."""


@dataclass(frozen=True)
class Job:
    """One study: its regime, what is done with it (`null`, `mitigation`, `planted`) and its seed."""

    regime_name: str
    regime: Regime
    kind: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.regime_name} | {self.kind} | {self.seed}"


STUDY_KINDS = {"null": null_study, "mitigation": mitigation_study, "planted": planted_study}


def flags_of(job: Job) -> dict[str, list[int]]:
    """The number of true flags and of all flags of each kind."""
    flags = STUDY_KINDS[job.kind](job.regime, job.seed)
    return {name: [sum(some), len(some)] for name, some in flags.items()}


def jobs_of(studies: int, quick: bool, only: Sequence[str]) -> list[Job]:
    """The studies of all regimes, whose names have all texts of `only`."""
    jobs = []
    for place, (name, regime) in enumerate(regimes(quick)):
        if not all(text in name for text in only):
            continue
        one_seed = regime.seeds == 1
        tried = one_seed and regime.share == MITIGATION_SHARE
        counts = {"null": studies, "mitigation": studies if tried else 0}
        counts["planted"] = max(2, studies // 4) if one_seed else 0
        for (kind, count), offset in zip(counts.items(), (0, 5_000, 5_000), strict=True):
            jobs += [Job(name, regime, kind, 10_000 * place + offset + n) for n in range(count)]
    return jobs


def recorded(file: Path | None) -> dict[str, dict[str, list[int]]]:
    """What earlier calls kept, by the key of the study."""
    if file is None or not file.exists():
        return {}
    return dict(json.loads(line) for line in file.read_text().splitlines())


def calibration(jobs: list[Job], quick: bool, workers: int, record: Path | None) -> dict[str, Any]:
    """Simulate studies and print a line per regime and kind; return the worst of each kind."""
    began = time.monotonic()
    results = recorded(record)
    missing = [job for job in jobs if job.key not in results]
    with ProcessPoolExecutor(workers) as pool, open(record or os.devnull, "a") as file:
        chunk = max(1, min(20, len(missing) // (4 * workers)))
        for job, flags in zip(missing, pool.map(flags_of, missing, chunksize=chunk), strict=True):
            results[job.key] = flags
            file.write(json.dumps([job.key, flags]) + "\n")
    regime_counts: Counts = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    null_studies: dict[str, int] = defaultdict(int)
    for key, flags in results.items():
        name, kind, _ = key.split(" | ")
        null_studies[name] += kind == "null"
        for flag, (true, every) in flags.items():
            regime_counts[name][flag][0] += true
            regime_counts[name][flag][1] += every
    for name, kinds in regime_counts.items():
        print(f"{name}: {null_studies[name]} null studies")
        for kind, (true, every) in kinds.items():
            print(f"    {kind:<50}{true / every:>7.3f}  of {every:,}" if every else f"    {kind}")
    return summary(regime_counts, min(null_studies.values()), quick) | {
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(cpu_seconds()),
    }


def summary(counts: Counts, studies: int, quick: bool) -> dict[str, Any]:
    """Print and return the worst regime of each kind.

    With `quick` false discoveries are counted over all regimes, since so few studies of one say nothing.
    """
    worst: dict[str, tuple[float, str]] = {}
    low: dict[str, tuple[float, str]] = {}
    high: dict[str, tuple[float, str]] = {}
    power: dict[str, dict[str, float]] = {"power": {}, "plain": {}}
    every_kind = dict.fromkeys(kind for kinds in counts.values() for kind in kinds)
    for kind in every_kind:
        shares = {n: (kinds[kind][0], kinds[kind][1]) for n, kinds in counts.items() if kinds.get(kind)}
        if kind in power:
            for name, (true, every) in shares.items():
                power[kind][name.removesuffix(", 1 seed")] = round(true / every, 3)
        elif kind.startswith("false") and quick:
            true, every = (sum(s[n] for s in shares.values()) for n in (0, 1))
            worst[kind] = true / every, "all regimes together"
        elif kind.startswith("false"):
            worst[kind] = max((true / every, name) for name, (true, every) in shares.items())
        else:
            known = [(true / every, name) for name, (true, every) in shares.items() if every >= 100]
            if known:
                low[kind], high[kind] = min(known), max(known)
    studies *= len(counts) if quick else 1
    print(f"\n{'worst case over the regimes':<50}{'lowest':>8}{'highest':>9}")
    for kind, (share, name) in worst.items():
        print(f"{kind:<50}{'':>8}{share:>9.3f}   {name}")
    for kind in low:
        print(f"{kind:<50}{low[kind][0]:>8.3f}{high[kind][0]:>9.3f}   {low[kind][1]} / {high[kind][1]}")
    return {
        "worst_false_discovery": round(max(s for s, _ in worst.values()), 4),
        "false_discovery_limit": round(LEVEL + 2 * float(np.sqrt(LEVEL * (1 - LEVEL) / studies)), 4),
        "worst_coverage_low": round(min(s for s, _ in low.values()), 4),
        "worst_coverage_high": round(max(s for s, _ in high.values()), 4),
        "power_r04": power["power"],
        "power_plain_permutation": power["plain"],
        "studies": studies,
    }


def cpu_seconds() -> float:
    """Processor time of this process and of its workers that have ended."""
    several = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in several)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few studies of half of the regimes")
    parser.add_argument("--studies", type=int, default=200, help="null studies per regime")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", default=[], help="only regimes with these texts in their name")
    parser.add_argument("--kinds", nargs="*", choices=[*STUDY_KINDS], default=[*STUDY_KINDS])
    parser.add_argument("--record", type=Path, help="file that keeps what each study showed")
    parser.add_argument("--full", action="store_true", help="analyse 7.5 million scores too")
    parser.add_argument("--size", type=float, help="only analyse this share of 7.5 million scores")
    words = parser.parse_args()
    if words.size:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(full_size(Path(folder), words.size)))
        return
    jobs = jobs_of(QUICK_STUDIES if words.quick else words.studies, words.quick, words.only)
    jobs = [job for job in jobs if job.kind in words.kinds]
    result = calibration(jobs, words.quick, words.workers, words.record)
    if words.full:
        with tempfile.TemporaryDirectory() as folder:
            result |= full_size(Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
