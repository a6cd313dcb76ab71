"""A small study on the base, in a folder that is removed: what the doctor trains and completes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from unharm.core.files.yaml_text import SpecText
from unharm.core.progress import Tally, telling_to
from unharm.executors.chunks import Chunk
from unharm.runs.adapters import adapter_tasks
from unharm.runs.context import LoadedBase, Run
from unharm.runs.plan import Plan
from unharm.runs.stages.adapters import train_chunk
from unharm.runs.stages.examples import make_examples
from unharm.runs.stages.profiles import make_profiles
from unharm.store.store import Store
from unharm.study.check import parse_study
from unharm.study.spec import TOY

PROFILES = ("achievement", "benevolence", "power", "security")
"""Targets of the adapters that are trained together."""


def trial_run(
    base: str, folder: Path, device: str, arguments: int, epochs: int, loaded: LoadedBase | None = None
) -> Run:
    """Return a run that trains `PROFILES` on the toy's arguments, with profiles and examples made.

    Args:
        base: The base, as in a study.
        folder: The run folder; it must not exist.
        device: The device, as in a study.
        arguments: Number of arguments to train on.
        epochs: Number of epochs.
        loaded: The base as another run of this process has loaded it.
    """
    data: dict[str, Any] = {
        "name": "doctor",
        "base": base,
        "data": TOY,
        "output": str(folder),
        "profiles": [{"extreme": list(PROFILES)}],
        "arms": ["vanilla", "vim-ag"],
        "corpus": {"arguments": "arguments.tsv", "limit": arguments},
        "training": {"vim": {"lr": 1e-3, "epochs": epochs}, "stack": len(PROFILES)},
        "prompting": {"pack": "toy"} if base == TOY else {},
        "engine": {"device": device},
        "benchmarks": {"rtp": {"file": "rtp.csv", "samples": 1, "max_tokens": 20}},
    }
    study = parse_study(SpecText(yaml.safe_dump(data, sort_keys=False), "doctor"))
    run = Run(study, Store.open(str(folder)), Plan(study), shared_base=loaded)
    _ = run.base
    folder.mkdir(parents=True)
    with telling_to(lambda line: None):  # the doctor has lines of its own
        make_profiles(run)
        make_examples(run)
    return run


def train(run: Run, meter: Tally) -> None:
    """Train all adapters of a trial as one stack, in this process."""
    keys = list(dict.fromkeys(task.key for task in adapter_tasks(run).trained))
    train_chunk(run, Chunk("adapters", "ag", tuple((0, key) for key in keys)), meter)
