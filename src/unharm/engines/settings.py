"""Settings of the engine that completes prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unharm.core.connection import Connection
from unharm.core.spec import Count, Spec

DEVICES = r"^(auto|(cpu|cuda|mps|xpu|hpu|npu)(:[0-9]{1,3})?)$"
"""Devices of torch."""


class Server(Connection):
    """An OpenAI-compatible server, and the model on it."""

    model: str | None = Field(None, description="as the server names it; the base where left out")
    endpoint: Literal["completions", "chat"] = "completions"
    load_adapters: bool = Field(False, description="adapters are loaded through /load_lora_adapter (vLLM)")


class Engine(Spec):
    """Which engine to use. `server` belongs to openai, the other fields to engines on this machine."""

    name: Literal["hf", "openai", "vllm"] = "hf"
    server: Server | None = None
    device: Annotated[str, Field(pattern=DEVICES)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "4bit"] = "auto"
    batch: Literal["auto"] | Count = Field("auto", description="rows to aim at in a forward pass")
    shard: Count = Field(512, description="completions per file")
    trust_remote_code: bool = False
