"""Tests of `unharm.engines.vllm`."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from support.generation_helpers import completions, small
from unharm.core.errors import UserError
from unharm.engines.requests import Request, Sampling, Task
from unharm.runs.pipeline import run_study


@dataclass
class FakeVllm:
    """What of vLLM is used, and what it was asked."""

    settings: dict[str, Any] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> FakeVllm:
    fake = FakeVllm()
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)

    class LLM:
        def __init__(self, **settings: Any):
            fake.settings = settings
            config = types.SimpleNamespace(max_model_len=40)
            self.llm_engine = types.SimpleNamespace(model_config=config)

        def get_tokenizer(self) -> Any:
            return tokenizer

        def generate(
            self, prompts: list[Any], settings: list[Any], lora_request: Any, use_tqdm: bool
        ) -> list[Any]:
            fake.asked.append((prompts, settings, lora_request))
            name = lora_request.lora_name if lora_request else "base"
            shift = 0.0 if name.endswith("idle") else len(name)
            chance = types.SimpleNamespace(
                decoded_token=" 3", logprob=-1.0 - (shift if lora_request else 0.0)
            )
            out = types.SimpleNamespace(
                text=f" by {name}",
                finish_reason="length",
                stop_reason=None,
                token_ids=[1, 2],
                logprobs=[{7: chance}],
            )
            return [types.SimpleNamespace(outputs=[out], prompt_token_ids=[1, 2, 3]) for _ in prompts]

    module = types.ModuleType("vllm")
    module.LLM = LLM  # type: ignore[attr-defined]
    module.SamplingParams = lambda **s: types.SimpleNamespace(**s)  # type: ignore[attr-defined]
    lora, request = types.ModuleType("vllm.lora"), types.ModuleType("vllm.lora.request")
    request.LoRARequest = lambda name, number, path: types.SimpleNamespace(  # type: ignore[attr-defined]
        lora_name=name, lora_int_id=number, lora_path=path
    )
    for name, part in (("vllm", module), ("vllm.lora", lora), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, part)
    return fake


def test_around_vllm(vllm: FakeVllm, tiny_study: dict[str, Any], load: Any, tiny_base: Path) -> None:
    from unharm.engines.vllm import VllmEngine

    study = load(
        small(tiny_study, "vanilla", "vim-ag") | {"training": {"lora": {"r": 20}}}, "engine.name=vllm"
    )
    engine = VllmEngine(
        tiny_base, study.engine, study.prompting.format == "chat", study.training.lora.r, study.seed
    )
    assert (vllm.settings["max_lora_rank"], vllm.settings["max_loras"]) == (32, 8)
    texts = ["one", "two", "", "word " * 60]
    wanted = tuple(Request(f"c{n}", f"p{n}", 0, t, 2**40 + n, options=(" 3",)) for n, t in enumerate(texts))
    sampling = Sampling(8, 0.1, 0.75, ("\n",))
    names = {"base": None, "hash1": tiny_base / "hash1", "idle": tiny_base / "idle"}
    tasks = [Task(n, wanted, sampling, folder) for n, folder in names.items()]
    refused: list[str] = []
    made = list(engine.complete(tasks, lambda task, error: refused.append(task.name)))
    assert refused == ["idle"]
    by_task = {n: [c for t, c in made if t.name == n] for n in names}
    assert [c.completion_id for c in by_task["base"]] == ["c2", "c3", "c0", "c1"]
    assert [c.reason for c in by_task["base"]] == ["empty prompt", "prompt too long", "", ""]
    assert {c.text for c in by_task["hash1"] if c.status == "completed"} == {" by hash1"}
    assert by_task["base"][-1].options == pytest.approx((0.3679,), abs=1e-4)
    settings = next(s for _, s, request in vllm.asked if request and len(s) == 2)
    assert (settings[0].max_tokens, settings[0].temperature, settings[0].stop) == (8, 0.1, ["\n"])
    assert settings[0].seed == (2**40) % 2**31


def test_without_vllm_the_message_says_how_to_get_it(tiny_study: dict[str, Any], load: Any) -> None:
    with pytest.raises(UserError, match=r"pip install 'unharm\[vllm\]'"):
        run_study(load(small(tiny_study, "vanilla"), "engine.name=vllm"), last="completions")


def test_a_whole_study_on_vllm(vllm: FakeVllm, tiny_study: dict[str, Any], load: Any) -> None:
    hot = {n: s for n, s in tiny_study["benchmarks"].items() if n in ("rtp", "hbr")}
    data = small(tiny_study, "vanilla", "vim-ag") | {"benchmarks": hot}
    run = run_study(load(data, "engine.name=vllm"))
    found = completions(run)
    assert found.height == 4 * (4 * 3 + 8)
    assert set(found["text"]) == {" by base", *(f" by {r.lora_name}" for _, _, r in vllm.asked if r)}
    named = {r.lora_name for _, _, r in vllm.asked if r}
    assert all(len(n) == 20 for n in named)
    assert len(named) == 3
