"""The whole experiment as one list of stages. This module alone knows the list.

A stage turns the records before it into its own: it plans its tasks, skips what the store has under the
same key, and does the rest. It never knows on which machine it runs.
"""

from __future__ import annotations

from unharm.core.connection import key_of
from unharm.runs.context import Run, new_run
from unharm.runs.execute import Stage, execute
from unharm.runs.stages.adapters import make_adapters
from unharm.runs.stages.completions import make_completions
from unharm.runs.stages.examples import make_examples
from unharm.runs.stages.findings import make_findings
from unharm.runs.stages.mitigation import make_mitigation
from unharm.runs.stages.profiles import make_profiles
from unharm.runs.stages.report import make_report
from unharm.runs.stages.scores import check_scorers, make_scores
from unharm.study.spec import Study

STAGES: dict[str, Stage] = {
    "profiles": make_profiles,
    "examples": make_examples,
    "adapters": make_adapters,
    "completions": make_completions,
    "scores": make_scores,
    "findings": make_findings,
    "mitigation": make_mitigation,
    "report": make_report,
}
"""The stages in their order."""

BEFORE_ENGINES = ("profiles", "examples", "adapters")
"""The stages that ask no server."""
BEFORE_SCORERS = (*BEFORE_ENGINES, "completions")
"""The stages that need no scorer."""


def stages_to(last: str) -> list[tuple[str, Stage]]:
    """The stages up to and including `last`."""
    names = list(STAGES)
    return [(name, STAGES[name]) for name in names[: 1 + names.index(last)]]


def run_study(study: Study, last: str = "report") -> Run:
    """Run a study up to and including the stage `last`; go on where an earlier run stopped.

    Returns:
        The run, closed: what is stored can be read.

    Raises:
        UserError: Before any work starts where the inputs are wrong, or where another process holds the
            run folder.
    """
    run = new_run(study)
    run.plan.check_inputs()
    if last not in BEFORE_ENGINES:
        for where, server in study.servers.items():
            key_of(server, where)
    if last not in BEFORE_SCORERS:
        check_scorers(run)
    execute(run, stages_to(last))
    return run
