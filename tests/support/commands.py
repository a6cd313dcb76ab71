"""The command line in a process of its own, without the seconds that importing torch takes.

A server imports what a run needs once and forks for every command. A command has its own process id,
environment, working folder and exit code, can be killed and gets signals, as if it had been typed.
What libraries read from the environment while they are imported is that of the server: a test of such a
variable starts a process itself. Workers of a command are new processes that import everything, as for a user;
where a test is about something else they are forked, too (`forked_workers`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from unharm.executors import processes

IMPORTED = [
    "torch", "transformers", "transformers.models.llama.modeling_llama", "peft", "polars", "scipy.stats",
    "altair", "openai", "jinja2", "unharm.cli.app", "unharm.runs.execute", "unharm.runs.pipeline",
    "unharm.engines.hf", "unharm.training.loop", "unharm.runs.stages.report", "support.warm",
]  # fmt: skip
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(IMPORTED)


def run_command(
    words: list[str], cwd: str, environment: dict[str, str], out: str, err: str, fork_workers: bool
) -> None:
    for path, number in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    # What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["unharm", *words]
    from unharm.cli.app import main

    if fork_workers:
        # The server that made this process is asked; multiprocessing would start another.
        vars(multiprocessing.forkserver)["_forkserver"].ensure_running = lambda: None
        with forked_workers():
            main()
    else:
        main()


@dataclass
class ForkedWorker:
    """A worker process, with what `subprocess.Popen` has of it."""

    process: ForkServerProcess

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode


def _serve(pipe: Connection, environment: dict[str, str], err: Connection) -> None:
    os.dup2(err.fileno(), 2)
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    processes.serve(pipe)


def _fork_worker(pipe: Connection, environment: dict[str, str]) -> ForkedWorker:
    err = Connection(os.dup(2), readable=False)  # any file can be handed over in this guise
    process = CONTEXT.Process(target=_serve, args=(pipe, environment, err))
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
        process.start()
    err.close()
    return ForkedWorker(process)


@contextlib.contextmanager
def forked_workers() -> Iterator[None]:
    """Fork the workers of runs from the server, which has imported everything: 0.1 s for five or six."""
    with mock.patch.object(processes, "start_process", _fork_worker):
        yield


@dataclass
class Command:
    """A command that runs, with what `subprocess.Popen` has of it."""

    process: ForkServerProcess
    folder: Path = field(repr=False)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "err").read_text()

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 300) -> int:
        """The exit code; an `AssertionError`, and the end of the command, when it takes longer."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"the command did not end in {timeout} s:\n{self.stderr[-2000:]}")
        return self.process.exitcode


def start(
    *words: str,
    cwd: Path | None = None,
    env: Mapping[str, str] = os.environ,
    fork_workers: bool = False,
) -> Command:
    """Start `unharm` with these words."""
    folder = Path(tempfile.mkdtemp(prefix="command-"))
    for name in ("out", "err"):
        (folder / name).touch()
    files = str(folder / "out"), str(folder / "err")
    given = (list(words), str(cwd or Path.cwd()), dict(env), *files, fork_workers)
    process = CONTEXT.Process(target=run_command, args=given)
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):  # the server starts with the first command
        process.start()
    return Command(process, folder)


def unharm(
    *words: str,
    cwd: Path | None = None,
    env: Mapping[str, str] = os.environ,
    timeout: float = 300,
    fork_workers: bool = False,
) -> CompletedProcess[str]:
    """Run `unharm` with these words to its end."""
    command = start(*words, cwd=cwd, env=env, fork_workers=fork_workers)
    code = command.wait(timeout)
    return CompletedProcess(["unharm", *words], code, command.stdout, command.stderr)
