"""Several commands in an environment of their own, with one import.

    python -m support.one_import < COMMANDS

What libraries read from the environment while they are imported is that of this process. It imports what a run
needs once and forks for every command. A line of the input is a command as a JSON list of words; a line of the
output has its exit code and what it printed.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

from support.commands import IMPORTED, run_command


def run_all(
    commands: Sequence[Sequence[str]], cwd: Path, env: Mapping[str, str]
) -> list[CompletedProcess[str]]:
    """Run `unharm` with each of these lists of words, one after another, in a new process."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [env.get("PYTHONPATH")])])
    result = subprocess.run(
        [sys.executable, "-m", "support.one_import"],
        input="".join(json.dumps(words) + "\n" for words in commands),
        env={**env, "PYTHONPATH": path},
        cwd=cwd, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    ended = map(json.loads, result.stdout.splitlines())
    return [CompletedProcess(list(words), *one) for words, one in zip(commands, ended, strict=True)]


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    fork = multiprocessing.get_context("fork")
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            given = json.loads(line), os.getcwd(), dict(os.environ), str(out), str(err), False
            process = fork.Process(target=run_command, args=given)
            out.touch()
            err.touch()
            process.start()
            process.join()
            code = process.exitcode
            print(json.dumps([code, out.read_text(), err.read_text()]), flush=True)


if __name__ == "__main__":
    main()
