"""Start real model servers on this machine, from the Python that has them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def python_with(package: str, variable: str) -> str:
    """Return a Python that has a package: the one that an environment variable names, or this one.

    Skips the test where there is none.
    """
    python = os.environ.get(variable, sys.executable)
    seek = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
    if subprocess.run([python, "-c", seek], check=False).returncode:
        pytest.skip(f"{python} has no {package} (make test-vllm, or set {variable})")
    return python


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def running(
    command: list[str], url: str, log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; enter it when `url` answers."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(url, process, log)
        yield process
    finally:
        kill(process)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers; fail with its last lines where it ends before."""
    for _ in range(1200):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if process.poll() is not None:
                raise AssertionError(log.read_text(errors="replace")[-2000:]) from None
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer after 10 minutes")


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a server with all its processes at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


LLAMACPP = """
import sys
import xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.port = sys.argv[1], int(sys.argv[2])
settings.model_alias = {"smollm2"}
settings.hostnames, settings.n_ctx, settings.n_parallel = ["127.0.0.1"], int(sys.argv[3]), 4
server = xllamacpp.Server(settings)
sys.stdin.read()
"""


def llamacpp_command(python: str, folder: Path, model: str, port: int, context: int) -> list[str]:
    """Return the command that serves a GGUF file as `smollm2`, until its standard input ends."""
    program = folder / "serve.py"
    program.write_text(LLAMACPP)
    return [python, str(program), model, str(port), str(context)]
