"""Writes a log of inspect_ai in time that grows with its samples.

inspect_ai's function compares each sample with all that it has not written yet, so the time of a long log
grows with the square: 77 s for 10,000 samples. Its recorder, which evaluations use, can write some samples
at a time. The recorder is not documented, so where another version has another one, the function writes.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from unharm.runs.tools.logs.inspect_package import needed

AT_ONCE = 500
"""Number of samples that are written at a time. Shorter logs are written by inspect_ai's function."""


def write_log(log: Any, path: Path) -> None:
    """Write an `EvalLog`; a file that exists is replaced.

    Raises:
        UserError: inspect_ai is missing.
        OSError: The file cannot be written.
    """
    package = needed("inspect_ai.log", str(path))
    if len(log.samples or []) > AT_ONCE:
        try:
            recorders = import_module("inspect_ai.log._recorders.eval")
            condense = import_module("inspect_ai.log._condense").condense_sample
            run = import_module("inspect_ai._util._async").run_coroutine
            run(_record(recorders.EvalRecorder(str(path.parent)), condense, log, str(path)))
            return
        except (ImportError, AttributeError, TypeError):
            path.unlink(missing_ok=True)
    package.write_eval_log(log, str(path))


async def _record(recorder: Any, condense: Any, log: Any, path: str) -> None:
    """Write a log with a recorder, some samples at a time."""
    await recorder.log_init(log.eval, path, clean=True)
    await recorder.log_start(log.eval, log.plan)
    for number, sample in enumerate(log.samples, 1):
        await recorder.log_sample(log.eval, condense(sample))
        if number % AT_ONCE == 0:
            await recorder.flush(log.eval)
    await recorder.log_finish(log.eval, log.status, log.stats, log.results, log.reductions, log.error)
