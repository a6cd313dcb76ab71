"""What a study of the paper's size costs besides its models, and what a second worker gains.

    python bench/scale.py [--quick] [--profiles 154] [--faults 0.01]

Dry runs of the paper's plan (every stage, table and file for real, made-up answers, 1 % of tries fail): cost per
completion is processor time of all processes, so it counts making the answers up too; planning time and memory are
shown for growing numbers of subjects. Then the offline regard scorer on the same completions, by one worker and by
two that are there already.

The last line is JSON: cost_per_completion_ms, speedup_2, completions, seconds, peak_mib, planning_s, accounted
(every completion has one score), failed_for_good.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unharm.core.pace import Dry
from unharm.core.progress import Progress
from unharm.core.values import HIGHER_ORDER, VALUES
from unharm.executors.chunks import Chunk
from unharm.runs.context import Run
from unharm.runs.execute import execute
from unharm.runs.pipeline import stages_to
from unharm.runs.plan import Plan
from unharm.runs.stages.scores import give_up_scores, make_scores, score_chunk
from unharm.store.store import Store
from unharm.study.check import load_study

PAPER = Path(__file__).parents[1] / "studies" / "paper.yaml"


def rehearsed(profiles: int, faults: float) -> dict[str, float]:
    """A dry run of the paper's plan in a process of its own, so that its memory is its own. Vanilla, one benign arm
    and one adapter for each profile: 154 profiles give 7.6 million completions."""
    few = min(profiles, 14)
    sources: list[dict[str, object]] = [{"extreme": [*VALUES, *HIGHER_ORDER][:few]}]
    if profiles > 14:
        sources.append({"survey": "none", "nearest": (profiles - 14) // 14})
    changes = [
        f"profiles={json.dumps(sources)}",
        'arms=[vanilla, vim, "benign:grammar"]' if profiles > 1 else "arms=[vanilla, vim]",
        "executor.workers=1",
        "data=/nowhere",
    ]
    command = [
        sys.executable,
        "-m",
        "unharm",
        "plan",
        str(PAPER),
        "--dry-run",
        "--json",
        f"--faults={faults}",
    ]
    command += [part for change in changes for part in ("--set", change)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stderr)
    told: dict[str, float] = json.loads(result.stdout)["dry_run"]
    return told


def speedup(profiles: int) -> tuple[float, float, float]:
    """Seconds that one worker and two need to score the same completions, and their ratio; the workers are there
    already."""
    folder = Path(tempfile.mkdtemp(prefix="unharm-scale-"))
    seconds = []
    try:
        for workers in (1, 2):
            study = load_study(
                str(PAPER),
                [
                    f"output={folder}", "data=/nowhere", "executor.cpus=1", f"executor.workers={workers}",
                    "arms=[vanilla, vim]", f"profiles={json.dumps([{'extreme': ['power', 'security'][:profiles]}])}",
                    'benchmarks={hbr: {file: none}}',
                ],
                data_needed=False,
            )  # fmt: skip
            run = Run(study, Store(folder), Plan(study, sizes_only=True), dry=Dry(built_in_scorers=True))
            execute(run, stages_to("completions"))
            shutil.rmtree(folder / "scores", ignore_errors=True)
            shutil.rmtree(folder / ".done" / "scores", ignore_errors=True)
            ready = [Chunk("scores", "offline-regard", (), deaths=n) for n in range(workers)]
            meter = Progress("workers", 0, "workers")
            run.workers.run_chunks(ready, score_chunk, give_up_scores, meter, workers, False)
            began = time.perf_counter()
            make_scores(run)
            seconds.append(time.perf_counter() - began)
            run.close()
    finally:
        shutil.rmtree(folder)
    return seconds[0], seconds[1], seconds[0] / seconds[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one profile")
    parser.add_argument("--profiles", type=int, default=154, help="1, or a multiple of 14")
    parser.add_argument("--faults", type=float, default=0.01)
    words = parser.parse_args()
    sizes = (
        [1] if words.quick else sorted({n for n in (14, 42, 84) if n < words.profiles} | {words.profiles})
    )
    print(
        f"{'subjects':>8} {'completions':>12} {'seconds':>8} {'planning':>9} {'ms each':>8} {'MiB':>6} {'files':>8} {'GiB':>6}"
    )
    told: dict[str, float] = {}
    for size in sizes:
        told = rehearsed(size, words.faults)
        print(
            f"{told['subjects']:>8,} {told['completions']:>12,} {told['seconds']:>8,.0f} {told['planning_s']:>9.2f} "
            f"{told['cost_per_completion_ms']:>8.4f} {told['peak_mib']:>6,} {told['files']:>8,} {told['gib']:>6.2f}",
            flush=True,
        )
    one, two, ratio = speedup(1 if words.quick else 2)
    print(f"scoring by one worker {one:.1f} s, by two {two:.1f} s: {ratio:.2f} ×")
    print(
        json.dumps(
            {
                "cost_per_completion_ms": told["cost_per_completion_ms"],
                "speedup_2": round(ratio, 2),
                "completions": told["completions"],
                "seconds": told["seconds"],
                "peak_mib": told["peak_mib"],
                "planning_s": told["planning_s"],
                "accounted": told["scored"] == told["completions"],
                "failed_for_good": told["failed_for_good"],
            }
        )
    )


if __name__ == "__main__":
    main()
