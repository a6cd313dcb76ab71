"""`transformers serve` itself, with a tiny base."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.real_servers import free_port, running
from unharm.engines.openai import OpenAIEngine
from unharm.engines.requests import Request, Sampling, generate
from unharm.engines.settings import Server


@pytest.fixture(scope="module")
def url(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("fastapi", reason="transformers[serving] is not installed")
    cache, port = tmp_path_factory.mktemp("hub"), free_port()
    (cache / "hub").mkdir()  # without it /v1/models answers 500
    program = [
        str(Path(sys.executable).parent / "transformers"),
        "serve",
        str(tiny_base),
        "--port",
        str(port),
    ]
    flags = ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "256"]
    root = f"http://127.0.0.1:{port}"
    with running(
        [*program, *flags], f"{root}/health", cache / "log", HF_HOME=str(cache), HF_HUB_OFFLINE="1"
    ):
        yield f"{root}/v1"


def test_a_real_server_answers_as_the_model_does(url: str, tiny_base: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from unharm.engines.hf import HfEngine

    texts = [f"{start} {n}" for n in range(8) for start in ("The driver", "She read", "Nobody liked")]
    requests = [Request(f"c{n}", str(n), 0, text, n) for n, text in enumerate(texts)]
    greedy = Sampling(6, 0.0, 1.0)
    server = Server(url=url, model=str(tiny_base), concurrency=4)
    made = generate(OpenAIEngine(server, "", "engine.server"), requests, greedy)
    assert {c.status for c in made} == {"completed"}, {c.reason for c in made}
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    model = AutoModelForCausalLM.from_pretrained(tiny_base).requires_grad_(False).eval()
    own = generate(HfEngine(model, tokenizer, "base"), requests, greedy)
    same = sum(a.text.strip() == b.text.strip() for a, b in zip(made, own, strict=True))
    assert same >= 22, f"{same} of 24"
