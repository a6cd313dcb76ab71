"""Execution of stages in a locked run folder, with a manifest and a status file."""

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
from unharm.runs.adapters import too_long_counts
from unharm.runs.context import Run
from unharm.runs.manifest import manifest
from unharm.runs.status import status_updates
from unharm.scoring.registry import has_model
from unharm.store.checked import write_checked

Stage = Callable[[Run], None]
"""A stage plans its tasks, skips finished ones and does the others."""


def execute(run: Run, stages: Sequence[tuple[str, Stage]], keep: bool = True) -> None:
    """Run stages in order with the run folder locked, and record the session in the manifest.

    Args:
        run: The run.
        stages: The stages with their names.
        keep: Whether checkpoints and rows of unfinished tables stay after success.

    Raises:
        UserError: The executor cannot be used, another process uses the run folder, or the input of a stage
            has problems.
        Stopped: The user asked to stop.
    """
    began = time.monotonic()
    store = run.store
    store.check_owner(run.study.name)
    with run:
        _ = run.base  # resolve it before anything is written: errors must leave no half-written run
        use_threads(run)
        check_workers(run)
        with interrupt.on_interrupt(), store.lock(run.study.name), status_updates(run):
            record = _write_manifest(run)
            run.steps = {name: "waiting" for name, _ in stages}
            for name, stage in stages:
                if interrupt.stop_requested():
                    raise interrupt.Stopped
                run.steps[name] = "running"
                stage(run)
                run.steps[name] = "done"
            record["sessions"][-1]["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            record["sessions"][-1]["seconds"] = round(time.monotonic() - began, 1)
            record["unscored"] = run.unscored
            record["left_out_too_long"] = too_long_counts(run)
            write_checked(store, "manifest.json", json.dumps(record, indent=1))
            if not keep and not (run.unscored or run.workers.failures):
                store.tidy()
    say(f"done in {duration(time.monotonic() - began)}: {store}")


def check_workers(run: Run) -> None:
    """Raise `UserError` if the executor cannot be used."""
    scored = any(has_model(run.study.scorers.get(name)) for name in run.plan.scorers)
    stages = ["adapters", "completions", *(["scores"] if scored else [])]
    if run.study.executor.name == "ray":
        with run.store.probe() as probe:
            run.workers.check(stages, required_paths(run, probe))
    else:
        run.workers.check(stages, [])


def required_paths(run: Run, probe: Path | None) -> list[tuple[str, str]]:
    """Return field and absolute path of everything that a worker reads or writes.

    Args:
        run: The run.
        probe: A new file in the run folder that stands for the folder; None on object storage.
    """
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
    for position, source in enumerate(study.profiles):
        if source.file:
            paths.append((f"profiles[{position}]", str(Path(source.file).expanduser().absolute())))
    if Path(study.prompting.pack).is_file():
        paths.append(("prompting.pack", str(Path(study.prompting.pack).absolute())))
    return paths


def _write_manifest(run: Run) -> dict[str, Any]:
    """Write study, prompt pack and manifest, and return the manifest."""
    store = run.store
    write_study(run)
    pack = json.dumps(run.plan.pack.data, indent=1, ensure_ascii=False)
    store.write_plain("prompt_pack.json", pack)
    record = manifest(run.study, run.base, store)
    record["prompt_pack"] = {"name": run.study.prompting.pack, "key": run.plan.pack.key}
    hypotheses = {"source": run.study.analysis.hypotheses, "key": run.plan.hypotheses.key}
    record["hypotheses"] = hypotheses | {"n": len(run.plan.hypotheses.hypotheses)}
    record["scorers"] = {name: asdict(row) for name, row in run.plan.scorers.items()}
    write_checked(store, "manifest.json", json.dumps(record, indent=1))
    return record


def write_study(run: Run) -> None:
    """Write the study into the run folder."""
    write_checked(run.store, "study.json", json.dumps(run.study.model_dump(mode="json"), indent=1))


def use_threads(run: Run) -> None:
    """Set the number of torch threads to that of the workers.

    On a CPU, the last bits of a sum depend on the number of threads.
    """
    import torch

    torch.set_num_threads(threads(run.study.executor, run.base.bytes))
