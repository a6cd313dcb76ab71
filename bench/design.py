"""Doses of one study against a study per dose.

    python bench/design.py [--quick] [--base FOLDER|toy]

Six doses of the arm `vim`: the adapter after three of its epochs, multiplied by two factors, and in full. Ours
is one study with `keep` and `scale`. The plain way is a study for each dose: an earlier epoch by training for
so many epochs, a factor by training in full and multiplying. Both ways have vanilla beside them, the same
prompts, and go to the report. The base is a small Llama that is trained here, or the one given.

Seconds are of the processor, in this process. "added" is what the doses add to the study without them, and
"own passes" what the completions and scores of the doses' subjects take of it, by their share of all
subjects' completions. A ratio grows with the share of training in a study.

The last line is JSON: ratio, doses, ours_s, plain_s, plain_each_s, added_s, own_passes_s.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from unharm.core.arms import dose_of
from unharm.core.files.yaml_text import SpecText
from unharm.core.models.transformers import quiet_libraries
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.study.check import parse_study
from unharm.study.demo.base import Shape, train_base
from unharm.study.demo.world import documents

EPOCHS, KEPT, SCALES = 5, (1, 2, 3), (0.5, 1.5)


def study_of(words: argparse.Namespace, base: str, output: Path) -> dict[str, Any]:
    """The study without doses, as plain data."""
    few = words.quick
    return {
        "name": output.name, "base": base, "data": "toy", "output": str(output),
        "profiles": [{"extreme": ["power", "benevolence", "security", "hedonism"]}],
        "arms": ["vanilla", "vim"],
        "corpus": {"arguments": "arguments.tsv", "limit": 100 if few else 400},
        "training": {"vim": {"lr": 1e-2, "epochs": EPOCHS, "batch": 16}},
        "prompting": {"pack": "toy"},
        "benchmarks": {
            "hexphi": {"file": "hexphi", "limit": 20 if few else 60, "max_tokens": 12},
            "questionnaire": {"file": "questionnaire.csv", "max_tokens": 3},
        },
    }  # fmt: skip


def timed(data: dict[str, Any], last: str = "report") -> tuple[float, Run]:
    """Run a study. Returns the seconds of the processor, and the run."""
    study = parse_study(SpecText(yaml.safe_dump(data), data["name"]))
    began = time.process_time()
    run = run_study(study, last=last)
    return time.process_time() - began, run


def with_recipe(data: dict[str, Any], **recipe: Any) -> dict[str, Any]:
    """The study with another recipe."""
    return data | {"training": {"vim": data["training"]["vim"] | recipe}}


def plain_studies(words: argparse.Namespace, base: str, folder: Path) -> dict[str, dict[str, Any]]:
    """A study for each dose."""
    studies = {}
    for epoch in KEPT:
        data = study_of(words, base, folder / f"epoch{epoch}")
        studies[f"epoch {epoch}"] = with_recipe(data, epochs=epoch)
    for scale in SCALES:
        data = study_of(words, base, folder / f"scale{scale}")
        studies[f"× {scale}"] = data | {"arms": ["vanilla", f"vim@{scale}"]}
    studies["full"] = study_of(words, base, folder / "full")
    return studies


def measure(words: argparse.Namespace, base: str, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Run both ways. Returns a table and its figures."""
    timed(
        with_recipe(
            study_of(words, base, folder / "warm") | {"profiles": [{"extreme": ["power"]}]}, epochs=1
        )
    )
    plain = {name: timed(data)[0] for name, data in plain_studies(words, base, folder).items()}
    doses = {"doses": {"scale": list(SCALES)}}
    data = with_recipe(study_of(words, base, folder / "ours"), keep=list(KEPT)) | doses
    trained, run = timed(data, "adapters")
    completed, run = timed(data, "scores")
    reported, run = timed(data)
    ours, subjects = trained + completed + reported, run.plan.subjects
    own = completed * sum(dose_of(s.arm) is not None for s in subjects) / len(subjects)
    figures = {
        "ratio": sum(plain.values()) / ours, "doses": len(plain), "ours_s": ours,
        "plain_s": sum(plain.values()), "plain_each_s": plain["full"], "added_s": ours - plain["full"],
        "own_passes_s": own,
    }  # fmt: skip
    lines = [f"{'a study for each dose':<28}{'processor s':>12}"]
    lines += [f"  {name:<26}{seconds:>12.1f}" for name, seconds in plain.items()]
    lines += [f"  {'together':<26}{sum(plain.values()):>12.1f}", "one study with all doses"]
    parts = {"adapters": trained, "completions and scores": completed, "findings and report": reported}
    lines += [f"  {name:<26}{seconds:>12.1f}" for name, seconds in parts.items()]
    lines += [f"  {'together':<26}{ours:>12.1f}", f"ratio {figures['ratio']:.2f}"]
    lines += [f"added to the study without doses {figures['added_s']:.1f} s, own passes {own:.1f} s"]
    return lines, {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller study")
    parser.add_argument("--base", default="", help="a base: a folder, or toy")
    words = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        base = words.base
        if not base:
            shape = Shape(
                hidden=32, layers=2, heads=2, vocabulary=600, context=512, window=64, batch=8, steps=60
            )
            train_base(documents(3)[:600], Path(folder) / "base", shape, seed=1)
            base = str(Path(folder) / "base")
        lines, figures = measure(words, base, Path(folder))
    print("\n".join(lines))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
