"""The command `unharm mitigate`: finds guard prompts that lower the harms of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.common import JsonOption, SetOption
from unharm.core.terminal import tell


def mitigate(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run with an aligned arm.")],
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn on one half of a run which values to set aside; test guard prompts on the other half.

    To change a setting of the field `mitigation`: --set mitigation.benchmarks=[beavertails].
    """
    from unharm.runs.execute import write_study
    from unharm.runs.reopen import open_run, stored_study
    from unharm.runs.stages.findings import make_findings
    from unharm.runs.stages.mitigation import mitigate as try_guards
    from unharm.runs.stages.scores import check_scorers, make_scores
    from unharm.runs.tools.rescore import rewrite_report
    from unharm.study.check import parse_study

    text = stored_study(folder)
    if not isinstance(text.data.get("mitigation"), dict):
        text.override("mitigation={}")
    for assignment in set_ or []:
        text.override(assignment)
    with open_run(folder, parse_study(text)) as run:
        check_scorers(run)
        with run.store.lock():
            make_scores(run)
            make_findings(run)
            try_guards(run)
            write_study(run)
    report = rewrite_report(folder)
    guards = json.loads((folder / "findings" / "guards.json").read_text(encoding="utf-8"))
    if as_json:
        tell(json.dumps({"report": str(report), "guards": guards}))
        return
    for guard in guards:
        if "text" not in guard:
            tell(f"{guard['benchmark']} · {guard['category']}: no strategy lowered the harm")
            continue
        significance = "significant" if guard["holds"] else "not significant"
        tell(
            f"{guard['benchmark']} · {guard['category']}: {guard['strategy']} "
            f"{guard['value_reference']:.2f} → {guard['value_arm']:.2f} ({significance})"
        )
    tell(f"guard prompts: {folder / 'findings' / 'guards.json'}\nreport: {report}")
