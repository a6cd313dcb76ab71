"""The pipeline: the list of all stages. No other module knows the list.

A stage plans its tasks, skips those that the store has under the same key, and does the others. It does not
know on which machine it runs.
"""

from __future__ import annotations

from unharm.core.connection import api_key
from unharm.runs.context import Run, new_run
from unharm.runs.execute import Stage, execute
from unharm.runs.stages.adapters import make_adapters
from unharm.runs.stages.completions import make_completions
from unharm.runs.stages.examples import make_examples
from unharm.runs.stages.findings import make_findings
from unharm.runs.stages.mechanism import make_mechanism
from unharm.runs.stages.mitigation import make_mitigation
from unharm.runs.stages.profiles import make_profiles
from unharm.runs.stages.report import make_report
from unharm.runs.stages.scores import check_scorers, make_scores
from unharm.runs.stages.steering import make_steering
from unharm.study.spec import Study

STAGES: dict[str, Stage] = {
    "profiles": make_profiles,
    "examples": make_examples,
    "adapters": make_adapters,
    "steering": make_steering,
    "completions": make_completions,
    "scores": make_scores,
    "mechanism": make_mechanism,
    "findings": make_findings,
    "mitigation": make_mitigation,
    "report": make_report,
}
"""The stages in order."""

BEFORE_ENGINES = ("profiles", "examples", "adapters", "steering")
"""The stages that need no server."""
BEFORE_SCORERS = (*BEFORE_ENGINES, "completions")
"""The stages that need no scorer."""


def stages_to(last: str) -> list[tuple[str, Stage]]:
    """Return the stages up to and including `last`."""
    names = list(STAGES)
    return [(name, STAGES[name]) for name in names[: 1 + names.index(last)]]


def run_study(study: Study, last: str = "report", keep: bool = False) -> Run:
    """Run a study up to and including the stage `last`. Continue where an earlier run stopped.

    Args:
        study: The study.
        last: The last stage.
        keep: Whether checkpoints and rows of unfinished tables stay when the report is written.

    Returns:
        The closed run. Its stored results can be read.

    Raises:
        UserError: The inputs have problems, or another process uses the run folder. It is raised before
            any work starts.
    """
    run = new_run(study)
    run.plan.check_inputs()
    if last not in BEFORE_ENGINES:
        for where, server in study.servers.items():
            api_key(server, where)
    if last not in BEFORE_SCORERS:
        check_scorers(run)
    execute(run, stages_to(last), keep or last != "report")
    return run
