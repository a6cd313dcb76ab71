"""A stand-in for the parts of vLLM that the engine uses: it answers by the adapter's name, and can die."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer


class EngineDeadError(Exception):
    """What vLLM raises when its engine has died."""


@dataclass
class FakeVllm:
    """What the engine was asked, and how it is to fail.

    Attributes:
        dies_at: Steps, counted over all starts, at which the engine dies.
        fails: Why it does not start; empty if it does.
        arguments: The arguments of each start.
        asked: Name, prompt, settings and adapter of each request.
        most_loras: The largest number of adapters that were in flight together.
        mixed: Whether the plain base was in flight together with adapters.
    """

    dies_at: tuple[int, ...] = ()
    fails: str = ""
    steps: int = 0
    arguments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, list[int], Any, Any]] = field(default_factory=list)
    most_loras: int = 0
    mixed: bool = False


def answer(name: str, ids: list[int], settings: Any, lora: Any, tokenizer: Any) -> Any:
    """Return a final output that names the adapter, and -1 (adapters: less) as each token's log probability."""
    adapter = lora.lora_name if lora else "base"
    chance = -1.0 - (0 if adapter in ("base", "idle") else len(adapter))
    logprob = types.SimpleNamespace(logprob=chance)
    tokens = settings.logprob_token_ids or [7]
    output = types.SimpleNamespace(
        finish_reason="length", stop_reason=None, token_ids=tokenizer(f" by {adapter}")["input_ids"],
        logprobs=[dict.fromkeys(tokens, logprob)],
    )  # fmt: skip
    return types.SimpleNamespace(request_id=name, finished=True, outputs=[output])


def install(monkeypatch: pytest.MonkeyPatch, base: Path) -> FakeVllm:
    """Put the stand-in in the place of the package vllm."""
    fake, tokenizer = FakeVllm(), AutoTokenizer.from_pretrained(base)

    class LLMEngine:
        def __init__(self, arguments: dict[str, Any]):
            if fake.fails:
                raise RuntimeError(fake.fails)
            fake.arguments.append(arguments)
            self.queue: list[tuple[str, list[int], Any, Any]] = []
            self.loaded: set[str] = set()
            self.vllm_config = types.SimpleNamespace(
                model_config=types.SimpleNamespace(max_model_len=40),
                scheduler_config=types.SimpleNamespace(max_num_seqs=4),
            )

        @classmethod
        def from_engine_args(cls, arguments: dict[str, Any]) -> LLMEngine:
            return cls(arguments)

        def get_tokenizer(self) -> Any:
            return tokenizer

        def add_lora(self, lora: Any) -> bool:
            if lora.lora_name == "broken":
                raise ValueError("rank 640 is greater than max_lora_rank")
            self.loaded.add(lora.lora_name)
            return True

        def add_request(self, name: str, prompt: Any, settings: Any, lora_request: Any) -> None:
            assert lora_request is None or lora_request.lora_name in self.loaded
            entry = (name, prompt["prompt_token_ids"], settings, lora_request)
            fake.asked.append(entry)
            self.queue.append(entry)
            adapters = {r[3].lora_name for r in self.queue if r[3]}
            fake.mixed |= bool(adapters) and any(r[3] is None for r in self.queue)
            fake.most_loras = max(fake.most_loras, len(adapters))

        def step(self) -> list[Any]:
            fake.steps += 1
            if fake.steps in fake.dies_at:
                raise EngineDeadError
            return [answer(*self.queue.pop(), tokenizer)] if self.queue else []

    def module(name: str, **members: Any) -> None:
        made = types.ModuleType(name)
        for member, value in members.items():
            setattr(made, member, value)
        monkeypatch.setitem(sys.modules, name, made)

    def sampling(**given: Any) -> Any:
        return types.SimpleNamespace(**{"logprob_token_ids": None} | given)

    def lora_request(name: str, number: int, path: str) -> Any:
        return types.SimpleNamespace(lora_name=name, lora_int_id=number, lora_path=path)

    module("vllm", LLMEngine=LLMEngine, EngineArgs=lambda **given: given, SamplingParams=sampling)
    module("vllm.platforms", current_platform=types.SimpleNamespace(is_cpu=lambda: True))
    module("vllm.sampling_params", RequestOutputKind=types.SimpleNamespace(FINAL_ONLY=2))
    module("vllm.lora")
    module("vllm.lora.request", LoRARequest=lora_request)
    module("vllm.v1")
    module("vllm.v1.engine")
    module("vllm.v1.engine.exceptions", EngineDeadError=EngineDeadError)
    return fake
