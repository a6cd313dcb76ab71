"""A judge on a faulty server, and its cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support import judges
from support.servers import Faulty
from unharm.scoring.answer_store import Answers
from unharm.scoring.judge import Judge
from unharm.scoring.rubric import load_rubric
from unharm.scoring.service_scorer import Limits, ServiceScorer
from unharm.scoring.settings import JudgeSpec
from unharm.scoring.texts import Text


def spec_of(faulty: Faulty, **more: Any) -> JudgeSpec:
    server = {"url": faulty.url, "attempts": 3, "timeout": 1.5, "concurrency": 16}
    return JudgeSpec.model_validate({"kind": "judge", "model": "small", "server": server} | more)


def scorer_of(faulty: Faulty, folder: Path, **more: Any) -> ServiceScorer:
    spec = spec_of(faulty, **more)
    judge = Judge(spec, load_rubric(spec.rubric), "v", "scorers.judge")
    answers = Answers(folder / "answers.sqlite")
    count, spent = answers.spent("v")
    return ServiceScorer(judge, answers, Limits(count, spent, spec.max_requests, spec.max_cost, spec.rate))


def cases(count: int) -> list[Text]:
    return [Text(str(n), judges.prompt_of(n), judges.answer_of(n), "") for n in range(count)]
