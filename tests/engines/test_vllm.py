"""Tests of `unharm.engines.vllm` against a stand-in; `test_vllm_real.py` has those with the real one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.fake_vllm import FakeVllm, install
from support.generation_helpers import completions, small
from unharm.core.errors import UserError
from unharm.core.records import Completion
from unharm.engines.requests import Request, Sampling, Task
from unharm.engines.settings import Engine
from unharm.engines.vllm import VllmEngine
from unharm.runs.pipeline import run_study

SAMPLING = Sampling(8, 0.1, 0.75, ("\n",))


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> FakeVllm:
    return install(monkeypatch, tiny_base)


def engine(base: Path, **settings: Any) -> VllmEngine:
    return VllmEngine(base, Engine(name="vllm", **settings), chat=False, rank=20, seed=1)


def task(name: str, adapter: Path | None, texts: list[str]) -> Task:
    wanted = tuple(
        Request(f"{name}{n}", f"p{n}", 0, t, 2**40 + n, options=(" 3", " 5")) for n, t in enumerate(texts)
    )
    return Task(name, wanted, SAMPLING, adapter)


def done(made: VllmEngine, tasks: list[Task]) -> tuple[dict[str, Completion], dict[str, str]]:
    refused: dict[str, str] = {}
    given = list(made.complete(tasks, lambda t, error: refused.update({t.name: str(error)})))
    by_id = {c.completion_id: c for _, c in given}
    assert len(by_id) == len(given)
    return by_id, refused


def test_requests_reach_vllm_with_settings_that_the_model_cannot_change(
    vllm: FakeVllm, tiny_base: Path
) -> None:
    made, _ = done(engine(tiny_base), [task("base", None, ["one", "two", "", "word " * 60])])
    assert {i: c.reason for i, c in made.items()} == {
        "base0": "", "base1": "", "base2": "empty prompt", "base3": "prompt too long",
    }  # fmt: skip
    # every token has a probability of 1/e, and " 5" has two tokens for this tokenizer
    assert made["base0"].options == pytest.approx((0.3679, 0.1353), abs=1e-4)
    settings = next(s for name, _, s, _ in vllm.asked if name == "base0")
    assert (settings.max_tokens, settings.temperature, settings.top_p) == (8, 0.1, 0.75)
    assert (settings.top_k, settings.min_p, settings.repetition_penalty) == (0, 0.0, 1.0)
    assert (settings.stop, settings.seed) == (["\n"], 2**40 % 2**31)


def test_arguments_follow_from_the_study_and_its_mapping(vllm: FakeVllm, tiny_base: Path) -> None:
    engine(tiny_base, vllm={"max_num_seqs": 16, "max_loras": 3})
    arguments = vllm.arguments[0]
    assert (arguments["max_lora_rank"], arguments["max_loras"], arguments["max_num_seqs"]) == (32, 3, 16)
    assert (arguments["dtype"], arguments["enable_chunked_prefill"]) == ("float32", False)  # a CPU
    with pytest.raises(UserError, match="max_lora_rank follows from the study"):
        engine(tiny_base, vllm={"max_lora_rank": 8})


def test_no_more_adapters_are_in_flight_than_vllm_holds(vllm: FakeVllm, tiny_base: Path) -> None:
    folders = [tiny_base / f"hash{n}" for n in range(14)]
    tasks = [task(f.name, f, ["one", "two"]) for f in folders]
    made, refused = done(engine(tiny_base, vllm={"max_loras": 3}), tasks)
    assert not refused
    assert {c.text for c in made.values()} == {f" by {f.name}" for f in folders}
    assert vllm.most_loras == 3


def test_the_base_is_never_in_flight_together_with_adapters(vllm: FakeVllm, tiny_base: Path) -> None:
    folders = [tiny_base / "hash1", None, tiny_base / "hash2", None]
    tasks = [task(str(n), folder, ["one", "two", "three"]) for n, folder in enumerate(folders)]
    made, _ = done(engine(tiny_base), tasks)
    assert len(made) == 12
    assert not vllm.mixed


def test_a_broken_adapter_and_one_without_effect_are_refused_and_the_rest_is_made(
    vllm: FakeVllm, tiny_base: Path
) -> None:
    names = ("broken", "idle", "good")
    made, refused = done(engine(tiny_base), [task(n, tiny_base / n, ["one"]) for n in names])
    assert "rank 640" in refused["broken"]
    assert "changes nothing" in refused["idle"]
    assert set(made) == {"good0"}


@pytest.mark.parametrize("step", [1, 2, 3, 7, 12])
def test_an_engine_that_dies_is_started_again_once_and_nothing_is_lost(
    vllm: FakeVllm, tiny_base: Path, step: int
) -> None:
    tasks = [task(n, tiny_base / n, ["one", "two", "three"]) for n in ("hash1", "hash2")]
    vllm.dies_at = (step,)
    made, refused = done(engine(tiny_base), tasks)
    assert (len(made), refused, len(vllm.arguments)) == (6, {}, 2)
    vllm.steps, vllm.dies_at = 0, (step, step + 1)
    with pytest.raises(UserError, match="vLLM died twice"):
        done(engine(tiny_base), tasks)


def test_an_engine_that_does_not_start_is_an_error_of_the_user(vllm: FakeVllm, tiny_base: Path) -> None:
    vllm.fails = "No available memory for the cache blocks.\nTraceback …"
    with pytest.raises(UserError, match="vLLM does not start: No available memory") as error:
        engine(tiny_base)
    assert "Traceback" not in str(error.value)


def test_heads_that_the_kernels_for_cpus_do_not_take_are_refused_before_the_start(
    vllm: FakeVllm, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = types.ModuleType("vllm.v1.attention.backends.cpu_attn")
    backend.CPUAttentionBackend = types.SimpleNamespace(get_supported_head_sizes=lambda: [32, 64])
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.setattr("unharm.engines.vllm_process.on_cpu", lambda: True)
    with pytest.raises(UserError, match="attention heads of 16 places; vLLM on a CPU takes 32, 64"):
        engine(tiny_base)
    assert vllm.arguments == []


def test_without_vllm_the_message_says_how_to_get_it(tiny_study: dict[str, Any], load: Any) -> None:
    with pytest.raises(UserError, match=r"unharm\[vllm\]"):
        run_study(load(small(tiny_study, "vanilla"), "engine.name=vllm"), last="completions")


@pytest.mark.parametrize(
    "settings", [{"engine.dtype": "4bit"}, {"engine.vllm": "{quantization: bitsandbytes}"}]
)
def test_four_bit_bases_are_refused_before_any_work(
    tiny_study: dict[str, Any], load: Any, settings: dict[str, str]
) -> None:
    with pytest.raises(UserError, match="does not complete with a"):
        load(small(tiny_study, "vanilla"), "engine.name=vllm", *(f"{k}={v}" for k, v in settings.items()))


def test_a_whole_study_on_vllm(vllm: FakeVllm, tiny_study: dict[str, Any], load: Any) -> None:
    chosen = {n: s for n, s in tiny_study["benchmarks"].items() if n in ("rtp", "hbr")}
    data = small(tiny_study, "vanilla", "vim-ag") | {"benchmarks": chosen}
    run = run_study(load(data, "engine.name=vllm"))
    found = completions(run)
    named = {lora.lora_name for _, _, _, lora in vllm.asked if lora}
    assert found.height == 4 * (4 * 3 + 8)
    assert set(found["text"]) == {" by base", *(f" by {name}" for name in named)}
    assert all(len(name) == 20 for name in named)
    assert len(named) == 3


@pytest.mark.parametrize("at", ["start", "use"])
def test_no_process_of_vllm_is_left_when_its_parent_is_killed(at: str, tmp_path: Path) -> None:
    """Also not one that it was about to start from."""
    stop = "os.kill(os.getpid(), signal.SIGKILL)"
    program = f"""
import os, signal, subprocess, sys, types
import unharm.engines.vllm_process as module

def start(arguments):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(child.pid, flush=True)
    {stop if at == "start" else "return types.SimpleNamespace()"}

engine = types.SimpleNamespace(from_engine_args=start)
module.vllm_modules = lambda: types.SimpleNamespace(LLMEngine=engine, EngineArgs=dict)
module.VllmProcess({{}})
{stop}
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    child = int(ended.stdout)
    until = time.monotonic() + 60
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
