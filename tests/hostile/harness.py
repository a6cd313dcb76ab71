"""Runs the command line in this process, as a user would call it."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hostile.bad_specs import STUDY


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


def unharm(*words: str) -> Ended:
    """The command `unharm` with these words. What is no `SystemExit` is a traceback: exit code 1."""
    import traceback

    from unharm.cli.app import main

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["unharm", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:
            err.write(traceback.format_exc())
            code = 1
    return Ended(code, out.getvalue(), err.getvalue())


class Began(AssertionError):
    """A bad input was taken for a good one: work would have begun."""


@contextlib.contextmanager
def no_work() -> Iterator[None]:
    """No stage runs and no model is loaded while this is entered."""

    def began(*_: object, **__: object) -> None:
        raise Began("work began")

    with (
        mock.patch("unharm.runs.execute.use_threads", began),
        mock.patch("unharm.runs.base.load_model", began),
        mock.patch("unharm.study.demo.base.train_base", began),
    ):
        yield


def study_text(lines: str) -> str:
    """The study of the table with these lines in place of its own fields."""
    given = {line.partition(":")[0] for line in lines.splitlines()}
    return "\n".join([text for field, text in STUDY.items() if field not in given] + [lines]) + "\n"


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its content; folders with None."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
