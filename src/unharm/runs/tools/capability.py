"""Hand vanilla, adapters and steered models to lm-evaluation-harness, and pair the results with vanilla."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from unharm.analysis.capability import Scores, capability_table
from unharm.core.errors import UserError, nearest
from unharm.core.models.decoder_layers import decoder_layers, layer_output, with_layer_output
from unharm.core.models.steering_folder import is_steering, read_steering
from unharm.core.progress import say
from unharm.core.records import Subject
from unharm.runs.adapters import adapter_folder, adapter_tasks, failed_adapters
from unharm.runs.context import Run

INSTALL = "pip install 'unharm[capability]'"


def capability(run: Run, tasks: Sequence[str], include: Path | None, limit: int | None) -> pl.DataFrame:
    """Evaluate the models of a run on tasks of lm-evaluation-harness.

    In-context arms are left out: their description belongs to a prompt, which these tasks word themselves.

    Args:
        run: A finished run.
        tasks: Names of tasks.
        include: A folder with tasks of your own, besides those that the harness ships with.
        limit: Most documents of a task; None for all.

    Returns:
        The table of `analysis.capability`.

    Raises:
        UserError: The harness is not installed, a task is unknown, or the study has no vanilla.
    """
    if find_spec("lm_eval") is None:
        raise UserError("this command needs lm-evaluation-harness", "unharm capability", INSTALL)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(include) if include else None)
    unknown = [name for name in tasks if name not in manager.all_tasks]
    if unknown:
        todo = nearest(unknown[0], tuple(manager.all_tasks))
        raise UserError(f"unknown task {unknown[0]!r}", "--tasks", f"{todo}, or give --include FOLDER")
    subjects = evaluated(run)
    if not any(subject.arm == "vanilla" for subject in subjects):
        raise UserError("results are paired with vanilla, which this study lacks", "arms", "add vanilla")
    scores: dict[Subject, Scores] = {}
    for number, subject in enumerate(subjects, start=1):
        say(f"capability: {subject.label} ({number} of {len(subjects)})")
        with _prepared(run, subject) as model:
            scores[subject] = _evaluate(model, run.loaded.tokenizer, tasks, manager, limit)
    return capability_table(scores, run.study.analysis.confidence)


def evaluated(run: Run) -> list[Subject]:
    """Return the models to evaluate: vanilla, adapters and steered models, each once."""
    failed = failed_adapters(run)
    strategy = run.study.strategies[0]
    return [
        s
        for s in run.plan.subjects
        if s.strategy == strategy
        and run.study.server_of(s.arm) is None
        and (s.arm == "vanilla" or adapter_folder(run, s) is not None)
        and adapter_tasks(run).of_subject(s) not in failed
    ]


@contextmanager
def _prepared(run: Run, subject: Subject) -> Iterator[Any]:
    """Yield the base with the adapter or the shift of a subject, and restore it."""
    from peft import PeftModel

    base, folder = run.loaded.model, adapter_folder(run, subject)
    if folder is None:
        yield base
    elif is_steering(folder):
        shift = read_steering(folder).to(base.device, base.dtype)
        handles = [
            layer.register_forward_hook(_adding(vector))
            for layer, vector in zip(decoder_layers(base), shift, strict=True)
        ]
        try:
            yield base
        finally:
            for handle in handles:
                handle.remove()
    else:
        adapted = PeftModel.from_pretrained(base, folder).eval()
        try:
            yield adapted
        finally:
            adapted.unload()


def _adding(vector: Any) -> Any:
    def add(_: Any, __: Any, output: Any) -> Any:
        return with_layer_output(output, layer_output(output) + vector)

    return add


def _evaluate(model: Any, tokenizer: Any, tasks: Sequence[str], manager: Any, limit: int | None) -> Scores:
    """Return the score of every document by task and metric."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8)
    result = simple_evaluate(
        model=wrapped, tasks=list(tasks), task_manager=manager, limit=limit, log_samples=True,
        bootstrap_iters=0, verbosity="ERROR",
    )  # fmt: skip
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for task, samples in result["samples"].items():
        for sample in samples:
            for metric in sample["metrics"]:
                value = sample[metric]
                if isinstance(value, int | float):
                    scores.setdefault((task, metric), {})[str(sample["doc_id"])] = float(value)
    return scores
