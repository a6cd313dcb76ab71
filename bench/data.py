"""What a user runs to prepare data, against the plain way of the published scripts, in the same process.

    python bench/data.py --data DATA [--quick]

DATA holds touche23/valueEval_10.csv, profiles/extreme_distributions.csv, profiles/names_154.txt and
ess/ess.csv; without it a corpus, profiles and a survey of the same size are made from a seed. Measured:

- examples: the stage that `unharm corpus make` runs, for 154 profiles and both stages, files written and
  synced; against one loop over rows per profile that builds every example's text and writes CSV files, as
  the published preprocessing does. Labels and texts of a sample of profiles are compared.
- select: from the survey's file to the ten nearest respondents of 14 extremes.

Times of the comparison are processor times: other work on the machine counts less. The last line is JSON:
examples_ratio (plain / ours), examples_s (seconds of ours on the clock), plain_cpu_s, ours_cpu_s, select_s.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from unharm.core.files.yaml_text import SpecText
from unharm.core.records import Profile
from unharm.core.values import VALUES
from unharm.corpus.vim import ag_examples, qa_examples
from unharm.profiles.extreme import TARGETS, extreme
from unharm.profiles.similar import most_similar
from unharm.profiles.survey import load_items, read_survey
from unharm.runs.adapters import adapter_tasks, examples_of
from unharm.runs.context import Run
from unharm.runs.plan import Plan
from unharm.runs.stages.examples import make_examples
from unharm.store.store import Store
from unharm.study.check import parse_study

PROFILES = 154


def plain_way(plan: Plan, profiles: list[Profile], out: Path) -> None:
    """For every profile and every row: the labels, the text of the example, a line in a file."""
    for number, profile in enumerate(profiles):
        for stage in ("ag", "qa"):
            folder = out / stage / str(number)
            folder.mkdir(parents=True)
            if stage == "ag":
                examples = ag_examples(plan.arguments, plan.splits, profile, plan.pack, 3.0)
            else:
                examples = qa_examples(plan.arguments, plan.splits, profile, plan.pack, 42)
            for split in ("train", "valid", "test"):
                with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file)
                    writer.writerow(["id", "prompt", "answer"])
                    writer.writerows([e.id, e.prompt, e.answer] for e in examples if e.split == split)


def synthetic(folder: Path) -> tuple[Path, Path, Path]:
    """A corpus, profiles and a survey of the published sizes, drawn by seed."""
    draw = np.random.default_rng(1)
    labels = draw.random((7374, 10)) < 0.28
    labels[~labels.any(axis=1), 0] = True
    names = [v.capitalize() if v != "self-direction" else "Self-direction" for v in VALUES]
    rows = ["\t".join(["Argument ID", "Conclusion", "Stance", "Premise", *names])]
    for n, row in enumerate(labels):
        premise = f"the town should keep its number {n} tram because people use it every day"
        stance = "against" if n % 2 else "in favor of"
        rows.append(
            "\t".join(
                [f"A{n}", f"We should keep tram {n % 300}", stance, premise, *map(str, row.astype(int))]
            )
        )
    arguments = folder / "arguments.tsv"
    arguments.write_text("\n".join(rows) + "\n", encoding="utf-8")
    items = load_items().columns
    answers = draw.choice(
        [1, 2, 3, 4, 5, 6, 88], (22190, len(items)), p=[0.18, 0.32, 0.21, 0.13, 0.1, 0.055, 0.005]
    )
    survey = folder / "survey.csv"
    survey.write_text(
        "\n".join([",".join(items), *(",".join(map(str, row)) for row in answers.tolist())]) + "\n"
    )
    profiles = folder / "profiles.csv"
    values = np.round(draw.uniform(1, 6, (PROFILES, 10)), 2)
    lines = [
        "name," + ",".join(VALUES),
        *(f"p{n}," + ",".join(map(str, row)) for n, row in enumerate(values)),
    ]
    profiles.write_text("\n".join(lines) + "\n")
    return arguments, profiles, survey


def real(data: Path, folder: Path) -> tuple[Path, Path, Path]:
    """The published files; the 154 profiles that the paper uses."""
    used = set((data / "profiles" / "names_154.txt").read_text().split("\n"))
    with (data / "profiles" / "extreme_distributions.csv").open() as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    key = next(iter(table[0]))
    chosen = [r for r in table if r[key] in used] or table[:PROFILES]
    lines = ["name," + ",".join(VALUES)]
    lines += [
        f"p{n}," + ",".join(r[v.capitalize()] for v in VALUES) for n, r in enumerate(chosen[:PROFILES])
    ]
    profiles = folder / "profiles.csv"
    profiles.write_text("\n".join(lines) + "\n")
    return data / "touche23" / "valueEval_10.csv", profiles, data / "ess" / "ess.csv"


def study_run(arguments: Path, profiles: Path, out: Path) -> Run:
    """The run of a study with 154 profiles and both stages, in dry: nothing of it needs a base."""
    from unharm.core.pace import Dry

    data = {
        "name": "data", "base": "toy", "data": str(arguments.parent), "output": str(out),
        "profiles": [{"file": str(profiles)}], "arms": ["vim"], "corpus": {"arguments": arguments.name},
        "benchmarks": {"harmless": {}},
    }  # fmt: skip
    study = parse_study(SpecText(yaml.safe_dump(data), "study"))
    return Run(study, Store(out), Plan(study), dry=Dry())


def same(plan: Plan, run: Run) -> None:
    """Stop where the stored examples of three profiles differ from those made one by one."""
    for task in adapter_tasks(run).trained:
        profile = task.plan.profile
        if profile not in (plan.profiles[0], plan.profiles[77], plan.profiles[-1]):
            continue
        if task.plan.stage == "ag":
            every = ag_examples(plan.arguments, plan.splits, profile, plan.pack, 3.0)
        else:
            every = qa_examples(plan.arguments, plan.splits, profile, plan.pack, 42)
        for split in ("train", "valid", "test"):
            if examples_of(run, task, split) != [e for e in every if e.split == split]:
                sys.exit(f"the two ways differ: {task.label}, {task.plan.stage}, {split}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--quick", action="store_true", help="one turn, and the plain way for a fiftieth of the profiles"
    )
    words = parser.parse_args()
    if words.data and not words.data.is_dir():
        sys.exit(f"no such folder: {words.data}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        arguments, profiles, survey = real(words.data, folder) if words.data else synthetic(folder)
        clocks, processors = [], []
        for turn in range(1 if words.quick else 3):
            run = study_run(arguments, profiles, folder / f"run{turn}")
            _ = run.plan.arguments, run.plan.splits  # both ways read the same file
            clock, processor = time.perf_counter(), time.process_time()
            with run.store.lock():
                make_examples(run)
            clocks.append(time.perf_counter() - clock)
            processors.append(time.process_time() - processor)
        same(run.plan, run)
        ours_s, ours_cpu = statistics.median(clocks), statistics.median(processors)
        part = run.plan.profiles[:: 50 if words.quick else 1]
        processor = time.process_time()
        plain_way(run.plan, part, folder / "plain")
        plain_cpu = (time.process_time() - processor) * len(run.plan.profiles) / len(part)

        def select() -> int:
            respondents = read_survey(survey, load_items())
            targets = [np.array(extreme(name).importances) for name in TARGETS]
            return sum(len(most_similar(respondents.importances, t, 10)) for t in targets)

        select_times = []
        for _ in range(1 if words.quick else 9):
            clock = time.perf_counter()
            chosen = select()
            select_times.append(time.perf_counter() - clock)
    count = len(run.plan.profiles)
    print(f"data: {words.data or 'synthetic'}; {count} profiles, {len(run.plan.arguments):,} arguments")
    print(f"{'':44}{'processor s':>12}{'ratio':>8}{'clock s':>10}")
    print(f"{'examples, row by row, texts in CSV files':44}{plain_cpu:>12.2f}{1:>8}")
    print(
        f"{'examples, the stage (labels in two tables)':44}{ours_cpu:>12.2f}{plain_cpu / ours_cpu:>8.0f}{ours_s:>10.2f}"
    )
    print(
        f"{f'select, file to {chosen} profiles':44}{'':>12}{'':>8}{statistics.median(select_times):>10.3f}"
    )
    result = {
        "examples_ratio": round(plain_cpu / ours_cpu, 1),
        "examples_s": round(ours_s, 3),
        "plain_cpu_s": round(plain_cpu, 2),
        "ours_cpu_s": round(ours_cpu, 3),
        "select_s": round(statistics.median(select_times), 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
