"""The parts of the spec that say which engine completes the prompts."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from unharm.errors import UserError
from unharm.spec import Positive, Spec


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "give the name of an environment variable such as OPENAI_API_KEY, not the key itself"
        )
    return name


def _http(url: str) -> str:
    if not re.match(r"https?://[^\s/]+", url):
        raise ValueError("give a URL such as http://localhost:8000/v1")
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("give the URL without a password; `key` names the variable that has one")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_http)]
KeyVariable = Annotated[str, AfterValidator(_variable)]


class Connection(Spec):
    """Where a service is, the variable that has its key, and how hard it is asked."""

    url: Url
    key: KeyVariable | None = Field(None, description="the environment variable that has the key")
    concurrency: Positive = Field(16, description="requests on their way at a time")
    attempts: Positive = Field(6, description="tries of a request before it is given up")
    timeout: Annotated[float, Field(gt=0)] = Field(120, description="seconds of one try")


class Server(Connection):
    """An OpenAI-compatible server and the model on it."""

    model: str | None = Field(None, description="as the server names it; the base where left out")
    endpoint: Literal["completions", "chat"] = "completions"
    load_adapters: bool = Field(False, description="adapters are loaded through /load_lora_adapter (vLLM)")


class Engine(Spec):
    """Which engine, and how: `server` for openai; the rest for those on this machine."""

    name: Literal["hf", "openai", "vllm"] = "hf"
    server: Server | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "4bit"] = "auto"
    batch: Literal["auto"] | Positive = Field("auto", description="rows to aim at in a forward pass")
    shard: Positive = Field(512, description="completions per file")
    trust_remote_code: bool = False


def key_of(server: Connection, where: str) -> str:
    """The key of a server, from its environment variable. Raises `UserError` where that is not set."""
    if not server.key:
        return "none"
    if not os.environ.get(server.key):
        todo = "set it to the key"
        raise UserError(f"the environment variable {server.key} is not set", f"{where}.key", todo)
    return os.environ[server.key]
