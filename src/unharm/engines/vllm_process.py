"""Start vLLM's engine for a base with adapters, and end its processes whatever happens to this one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import psutil

from unharm.core.errors import UserError, nearest
from unharm.engines.settings import Engine

MAX_LORAS = 8
"""Adapters in a batch. The default of vLLM is 1."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The maximum ranks that vLLM accepts."""
OURS = ("model", "tokenizer", "enable_lora", "seed", "trust_remote_code", "max_lora_rank")
"""Arguments that follow from the study."""
RATHER = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",  # a study sends nothing anywhere but to the servers that it names
    "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",  # a fork of a process with threads can hang
}
"""Environment of vLLM, where the user has set nothing else."""

MARK = "UNHARM_VLLM_OF"
"""Environment variable that vLLM's processes inherit: it says which of them a watchdog ends."""


class VllmProcess:
    """A running engine of vLLM.

    Attributes:
        engine: The engine (`vllm.LLMEngine`).
        modules: The classes of vLLM that the engine is used with.
    """

    def __init__(self, arguments: dict[str, Any]):
        """Start the engine.

        Raises:
            UserError: vLLM is not installed, does not know an argument, or does not start.
        """
        self.modules = vllm_modules()
        token = uuid.uuid4().hex
        self._watchdog = _watch(token)
        before = _children()
        os.environ[MARK] = token
        try:
            self.engine = self.modules.LLMEngine.from_engine_args(self.modules.EngineArgs(**arguments))
        except Exception as error:  # vLLM raises whatever its parts raise, RuntimeError for a dead process
            _end(_children() - before)
            self._dismiss_watchdog()
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise UserError(
                f"vLLM does not start: {lines[0][:300]}",
                "engine.vllm",
                "its own messages stand above. Less memory: gpu_memory_utilization, max_model_len or "
                "max_num_seqs under engine.vllm; or use the engine hf",
            ) from None
        finally:
            os.environ.pop(MARK, None)
        self._started = _children() - before
        self._closed = threading.Event()
        threading.Thread(target=self._wake_when_dead, daemon=True).start()

    def _wake_when_dead(self) -> None:
        """Wake whoever waits for vLLM when its process has died.

        vLLM notices the death itself, but a step or a call that is waiting then waits for ever.
        """
        core = getattr(self.engine, "engine_core", None)
        resources = getattr(core, "resources", None)
        while not self._closed.wait(0.5):
            if not getattr(resources, "engine_dead", False):
                continue
            error = importlib.import_module("vllm.v1.engine.exceptions").EngineDeadError()
            outputs = getattr(core, "outputs_queue", None)
            if outputs is not None:
                outputs.put_nowait(error)
            for future in list(getattr(core, "utility_results", {}).values()):
                if not future.done():
                    future.set_exception(error)
            return

    def close(self) -> None:
        """End the engine and its processes, and give their memory back."""
        self._closed.set()
        core = getattr(self.engine, "engine_core", None)
        try:
            if core is not None:
                core.shutdown()
        except Exception:  # what is broken already cannot be shut down in order
            pass
        finally:
            _end(self._started)
            self._dismiss_watchdog()

    def _dismiss_watchdog(self) -> None:
        """Let the watchdog end without looking for processes."""
        if self._watchdog.poll() is None:
            self._watchdog.communicate(b"closed", timeout=10)


def vllm_modules() -> Any:
    """Import vLLM.

    Raises:
        UserError: It is not installed, or not for this machine.
    """
    for name, value in RATHER.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("vllm")
    except (ImportError, OSError, RuntimeError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "vllm"
        raise UserError(
            "the engine vllm needs the package vllm"
            if missing
            else f"the package vllm cannot be imported: {str(error)[:300]}",
            "engine.name",
            "install it beside unharm ('unharm[vllm]'), or serve the base from an environment of its own "
            "and use the engine openai (docs/generation.md), or use hf",
        ) from None


def on_cpu() -> bool:
    """Return whether this vLLM runs on the CPU."""
    platforms = importlib.import_module("vllm.platforms")
    return bool(platforms.current_platform.is_cpu())


def engine_arguments(
    base: Path, settings: Engine, rank: int, seed: int, context: int | None, targets: frozenset[str]
) -> dict[str, Any]:
    """Return the arguments of vLLM's engine.

    Args:
        base: Folder of the model.
        settings: Engine settings of the study; `settings.vllm` goes before what follows from the rest.
        rank: Largest rank of the adapters.
        seed: Seed of the study.
        context: Most tokens of a prompt with its completion; None for the model's own limit.
        targets: Modules that adapters change; empty for all that vLLM can adapt.

    Raises:
        UserError: vLLM is not installed, or `settings.vllm` has an unknown or forbidden argument.
    """
    modules = vllm_modules()
    cpu = on_cpu()
    arguments: dict[str, Any] = {
        "dtype": _dtype(settings.dtype, cpu),
        "max_loras": MAX_LORAS,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
    }
    if context:
        arguments["max_model_len"] = context
    known = set(getattr(modules.EngineArgs, "__dataclass_fields__", ()))
    if targets and "lora_target_modules" in known:
        arguments["lora_target_modules"] = sorted(targets)
    if cpu:
        _check_heads(base)  # and: a seeded request with chunked prefill ends the engine on a CPU
        arguments["enable_chunked_prefill"] = False
    given = {name: value for name, value in settings.vllm.items() if name != "batch_invariant"}
    for name in given:
        if name in OURS:
            raise UserError(f"{name} follows from the study", f"engine.vllm.{name}", "leave it out")
        if known and name not in known:
            raise UserError(
                f"vLLM has no argument {name!r}", f"engine.vllm.{name}", nearest(name, sorted(known))
            )
    if settings.vllm.get("batch_invariant"):
        os.environ["VLLM_BATCH_INVARIANT"] = "1"
    return (
        arguments
        | given
        | {
            "model": str(base),
            "enable_lora": True,
            "max_lora_rank": next((r for r in RANKS if r >= rank), RANKS[-1]),
            "trust_remote_code": settings.trust_remote_code,
            "seed": seed,
        }
    )


def _check_heads(base: Path) -> None:
    """Raise `UserError` if the kernels of vLLM for CPUs do not take the base's attention heads."""
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        backend = importlib.import_module("vllm.v1.attention.backends.cpu_attn").CPUAttentionBackend
        sizes = list(backend.get_supported_head_sizes())
    except (ImportError, AttributeError, OSError, ValueError, KeyError, TypeError):
        return  # vLLM itself says what it cannot do
    if size not in sizes:
        raise UserError(
            f"the base has attention heads of {size} places; vLLM on a CPU takes "
            f"{', '.join(map(str, sizes))}",
            "base",
            "use the engine hf, or another base",
        )


def _dtype(dtype: str, cpu: bool) -> str:
    """Return vLLM's name of a dtype. `auto` means what it means for the engine hf."""
    if dtype == "auto":
        return "float32" if cpu else "bfloat16"
    return dtype


def _children() -> set[psutil.Process]:
    """Return all processes below this one."""
    return set(psutil.Process().children(recursive=True))


def _end(processes: set[psutil.Process]) -> None:
    """Ask processes to end, and end those that do not."""
    for process in processes:
        try:
            process.terminate()
        except psutil.Error:
            continue
    for process in psutil.wait_procs(list(processes), timeout=10)[1]:
        try:
            process.kill()
        except psutil.Error:
            continue


def _watch(token: str) -> subprocess.Popen[bytes]:
    """Start a process that ends what vLLM has started here when this one dies."""
    command = [sys.executable, "-m", "unharm.engines.vllm_watchdog", MARK, token]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # outlives its group
