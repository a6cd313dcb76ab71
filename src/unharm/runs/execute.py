"""Stages carried out in a run folder, alone in it, with a manifest and signs of life."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unharm.core import interrupt
from unharm.core.progress import duration, say
from unharm.executors.settings import threads
from unharm.runs.adapters import left_out
from unharm.runs.context import Run
from unharm.runs.manifest import manifest
from unharm.runs.status import signs_of_life
from unharm.scoring.registry import has_model
from unharm.store.checked import write_checked

Stage = Callable[[Run], None]
"""Plans its tasks, skips what is done under the same key, does the rest."""


def execute(run: Run, stages: Sequence[tuple[str, Stage]]) -> None:
    """Carry out stages in their order, alone in the run folder; the manifest tells of the session.

    Raises:
        UserError: The executor cannot be used, another process holds the run folder, or a stage finds a
            mistake of the user.
        Stopped: The user asked to stop.
    """
    began = time.monotonic()
    store = run.store
    with run:
        _ = run.base  # is found, or trained, before anything is written
        use_threads(run)
        check_workers(run)
        with interrupt.on_interrupt(), store.lock(), signs_of_life(run):
            record = _begin(run)
            run.steps = {name: "waiting" for name, _ in stages}
            for name, stage in stages:
                if interrupt.asked():
                    raise interrupt.Stopped
                run.steps[name] = "running"
                stage(run)
                run.steps[name] = "done"
            record["sessions"][-1]["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            record["sessions"][-1]["seconds"] = round(time.monotonic() - began, 1)
            record["unscored"] = run.unscored
            record["left_out_too_long"] = left_out(run)
            write_checked(store, "manifest.json", json.dumps(record, indent=1))
    say(f"done in {duration(time.monotonic() - began)}: {store}")


def check_workers(run: Run) -> None:
    """Look before any work whether the executor can be used. Raises `UserError` with what is wrong."""
    scored = any(has_model(run.study.scorers.get(name)) for name in run.plan.scorers)
    stages = ["adapters", "completions", *(["scores"] if scored else [])]
    if run.study.executor.name == "ray":
        with run.store.probe() as probe:
            run.workers.check(stages, paths_of(run, probe))
    else:
        run.workers.check(stages, [])


def paths_of(run: Run, probe: Path | None) -> list[tuple[str, str]]:
    """The field and absolute path of everything that a worker reads or writes; the run folder by `probe`, a
    file in it that was just written (None on object storage)."""
    study, paths = run.study, []
    if probe is not None:
        paths.append(("the run folder (output)", str(probe)))
    if study.needs_base and run.base.path != Path() and not run.base.revision:
        paths.append(("the base", str(run.base.path.absolute())))
    if study.data != "toy":
        paths.append(("data", str(study.data_folder.absolute())))
        paths += [
            (f"benchmarks.{b}.file", str(study.prompt_file(b).absolute()))
            for b in study.benchmarks.chosen()
        ]
    for place, source in enumerate(study.profiles):
        if source.file:
            paths.append((f"profiles[{place}]", str(Path(source.file).expanduser().absolute())))
    if Path(study.prompting.pack).is_file():
        paths.append(("prompting.pack", str(Path(study.prompting.pack).absolute())))
    return paths


def _begin(run: Run) -> dict[str, Any]:
    """Write what the run is made of and return its manifest."""
    store = run.store
    write_study(run)
    pack = json.dumps(run.plan.pack.data, indent=1, ensure_ascii=False)
    store.write_plain("prompt_pack.json", pack)
    record = manifest(run.study, run.base, store)
    record["prompt_pack"] = {"name": run.study.prompting.pack, "key": run.plan.pack.key}
    stated = {"source": run.study.analysis.hypotheses, "key": run.plan.stated.key}
    record["hypotheses"] = stated | {"n": len(run.plan.stated.hypotheses)}
    record["scorers"] = {name: asdict(row) for name, row in run.plan.scorers.items()}
    write_checked(store, "manifest.json", json.dumps(record, indent=1))
    return record


def write_study(run: Run) -> None:
    """Write the study of a run into its folder."""
    write_checked(run.store, "study.json", json.dumps(run.study.model_dump(mode="json"), indent=1))


def use_threads(run: Run) -> None:
    """Set torch's threads to those of every worker: on a CPU the last bits of a sum depend on them."""
    import torch

    torch.set_num_threads(threads(run.study.executor, run.base.bytes))
