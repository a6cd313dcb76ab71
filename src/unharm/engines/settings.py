"""Settings of the engine that completes prompts."""

from __future__ import annotations

import ipaddress
from importlib.util import find_spec
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from unharm.core.connection import Connection, Url
from unharm.core.spec import Count, Spec

DEVICES = r"^(auto|(cpu|cuda|mps|xpu|hpu|npu)(:[0-9]{1,3})?)$"
"""Devices of torch."""

OWN_CONCURRENCY = 256
"""Requests on their way to a server of one's own: a full batch of vLLM."""


def _of_ones_own(url: str) -> bool:
    """Return whether a URL names this machine or one of a private network."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host


class Server(Connection):
    """An OpenAI-compatible server, and the model on it."""

    urls: list[Url] = Field([], description="further servers with the same model; they share the work")
    model: str | None = Field(None, description="as the server names it; the base where left out")
    endpoint: Literal["completions", "chat"] = "completions"
    load_adapters: bool = Field(False, description="adapters are loaded through /load_lora_adapter (vLLM)")
    patience: Annotated[float, Field(ge=0)] = Field(
        300, description="seconds to wait for a server that stopped answering, or loads its model"
    )

    @model_validator(mode="before")
    @classmethod
    def _concurrency(cls, data: object) -> object:
        """Ask a server of one's own for more at a time than a hosted one, which has limits of rate."""
        if not isinstance(data, dict) or "concurrency" in data or not isinstance(data.get("url"), str):
            return data
        owned = data.get("load_adapters") or _of_ones_own(data["url"])
        return data | {"concurrency": OWN_CONCURRENCY} if owned else data


def vllm_usable() -> bool:
    """Return whether vLLM is installed and has an accelerator."""
    if find_spec("vllm") is None:
        return False
    import torch

    return torch.cuda.is_available()


class Engine(Spec):
    """Which engine to use. `server` belongs to openai, the other fields to engines on this machine.

    `auto` is hf for benchmarks with several samples of a prompt: samples share a row until they part, which
    at a low temperature is late. Benchmarks with one sample go to `single_samples`.
    """

    name: Literal["auto", "hf", "openai", "vllm"] = "hf"
    single_samples: Literal["auto", "hf", "vllm"] = Field(
        "auto",
        description="where name is auto: the engine of benchmarks with one sample of a prompt. auto: vllm "
        "where it is installed and there is an accelerator, else hf; decided when a run begins",
    )
    server: Server | None = None
    device: Annotated[str, Field(pattern=DEVICES)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "4bit"] = "auto"
    batch: Literal["auto"] | Count = Field("auto", description="rows to aim at in a forward pass")
    shard: Count = Field(512, description="completions per file")
    trust_remote_code: bool = False
    vllm: dict[str, bool | int | float | str] = Field(
        {}, description="arguments of vLLM's engine by its own names, such as gpu_memory_utilization"
    )

    def of(self, samples: int) -> str:
        """Return the engine of a benchmark with so many samples of a prompt: hf, openai or vllm."""
        if self.name != "auto":
            return self.name
        return self.decided().single_samples if samples == 1 else "hf"

    def decided(self) -> Engine:
        """Return the settings with the engine of single samples decided by what this machine has."""
        if self.name != "auto" or self.single_samples != "auto":
            return self
        chosen = "vllm" if self.dtype != "4bit" and vllm_usable() else "hf"
        return self.model_copy(update={"single_samples": chosen})
