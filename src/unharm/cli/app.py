"""The command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but incomplete;
128 and the number of a signal that stopped it: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from unharm.cli.capability import capability
from unharm.cli.common import (
    ExecutorOption,
    IntoOption,
    JsonOption,
    KeepOption,
    RunArg,
    SetOption,
    StudyArg,
    run_to,
)
from unharm.cli.compare import compare
from unharm.cli.data import data
from unharm.cli.doctor import doctor
from unharm.cli.export import export
from unharm.cli.figure import figure
from unharm.cli.init import init
from unharm.cli.inputs import corpus, profiles
from unharm.cli.mitigate import mitigate
from unharm.cli.plan import plan, status
from unharm.cli.prompts import prompts
from unharm.cli.push import push
from unharm.cli.query import query
from unharm.cli.scores import batch, calibrate, labels, pilot, rescore, scorers
from unharm.cli.show import show
from unharm.cli.view import view
from unharm.core import interrupt
from unharm.core.environment import missing_defaults
from unharm.core.errors import UserError
from unharm.core.progress import watched
from unharm.core.terminal import OutputClosed, guarded_streams, tell, warn
from unharm.core.version import __version__

STUDY, INPUTS, RESULTS, TOOLS = "Study", "Inputs", "Results", "Tools"
"""The groups of verbs in `--help`."""

app = typer.Typer(
    name="unharm",
    help="Measure, explain and reduce the harms of value-aligned language models.",
    epilog="First steps: unharm run quickstart, then unharm init study.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo = typer.Typer(help="Train a tiny base on text of your own.", no_args_is_help=True)


def _version(value: bool) -> None:
    if value:
        tell(f"unharm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(
    study: StudyArg,
    set_: SetOption = None,
    into: IntoOption = None,
    executor: ExecutorOption = None,
    keep: KeepOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a whole study to its report; goes on where an earlier run stopped."""
    run_to(study, set_, "report", as_json, executor, into=into, keep=keep)


def train(
    study: StudyArg,
    set_: SetOption = None,
    into: IntoOption = None,
    executor: ExecutorOption = None,
    as_json: JsonOption = False,
    export: Annotated[
        Path | None,
        typer.Option(help="Copy adapters, value vectors and shifts into this folder, each with a card."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="lr=1e-4,3e-4",
            help="Try settings of training.vim on two profiles instead, and say which one aligns.",
        ),
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="With --sweep: a profile to train on; by default two.")
    ] = None,
) -> None:
    """Train the adapters of a study. Earlier stages run first where they are not done."""
    if sweep:
        from unharm.cli.sweep import sweep_study

        if into:
            raise UserError("a sweep does not write into a run folder", "--into", "leave it out")
        sweep_study(study, set_, executor, sweep, profile, as_json)
        return
    if profile:
        raise UserError("this option needs --sweep", "--profile")
    run_to(study, set_, "adapters", as_json, executor, export, into)


def generate(
    study: StudyArg,
    set_: SetOption = None,
    into: IntoOption = None,
    executor: ExecutorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generate the completions of a study. Earlier stages run first where they are not done."""
    run_to(study, set_, "completions", as_json, executor, into=into)


def score(
    study: StudyArg,
    set_: SetOption = None,
    into: IntoOption = None,
    executor: ExecutorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the completions of a study. Earlier stages run first where they are not done."""
    run_to(study, set_, "scores", as_json, executor, into=into)


def analyze(
    study: StudyArg,
    set_: SetOption = None,
    into: IntoOption = None,
    executor: ExecutorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the metrics and findings of a study. Earlier stages run first where they are not done."""
    run_to(study, set_, "findings", as_json, executor, into=into)


def report(
    folder: RunArg,
    latex: Annotated[
        bool, typer.Option("--latex", help="Write the tables as LaTeX too: findings/tables.tex.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run again from what it has stored."""
    from unharm.runs.reopen import stored_study
    from unharm.runs.tools.rescore import rewrite_report
    from unharm.study.check import parse_study

    paths = {"report": str(rewrite_report(folder))}
    if latex:
        from unharm.runs.stages.report import write_latex

        paths["latex"] = str(write_latex(folder, parse_study(stored_study(folder))))
    tell(json.dumps(paths) if as_json else "\n".join(paths.values()))


@demo.command("base")
def demo_base(
    text: Annotated[
        list[Path], typer.Option("--text", help="Text files to train on; give it again for more.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write the model to.")],
    hidden: Annotated[int, typer.Option(min=32, help="Width of the model.")] = 256,
    layers: Annotated[int, typer.Option(min=1, help="Number of layers.")] = 4,
    vocabulary: Annotated[int, typer.Option(min=300, help="Size of the vocabulary.")] = 8000,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of 8 rows of 128 tokens.")] = 600,
    seed: Annotated[int, typer.Option(min=0)] = 7,
    as_json: JsonOption = False,
) -> None:
    """Train a tiny Llama-architecture base from scratch on any text files."""
    import time

    from unharm.core.progress import Progress, duration, say
    from unharm.study.demo.base import Shape, read_texts, train_base

    if out.exists():
        raise UserError("this folder exists already", str(out), "remove it or choose another --out")
    if hidden % 32:
        raise UserError(f"--hidden {hidden} is no multiple of 32", "--hidden", "for example 256")
    texts = read_texts(text)
    say(f"{len(texts):,} documents")
    began = time.monotonic()
    shape = Shape(
        hidden=hidden, layers=layers, heads=hidden // 32, vocabulary=vocabulary, steps=steps, lr=1e-3
    )
    with Progress("base", steps, "steps") as progress:
        loss = train_base(texts, out, shape, seed, lambda *_: progress.tick(1))
    seconds = time.monotonic() - began
    if as_json:
        tell(json.dumps({"base": str(out), "loss": round(loss, 3), "seconds": round(seconds, 1)}))
    else:
        say(f"base: {out} (loss {loss:.2f}, {duration(seconds)})")


for _group, _verbs in {
    STUDY: (run, plan, init, doctor, status, train, generate, score, analyze, mitigate),
    RESULTS: (report, view, show, figure, query, compare, rescore, export, push),
    TOOLS: (pilot, calibrate, labels, capability),
}.items():
    for _verb in _verbs:
        app.command(rich_help_panel=_group)(_verb)
for _group, _folders in {
    INPUTS: {"profiles": profiles, "corpus": corpus, "prompts": prompts, "data": data},
    TOOLS: {"scorers": scorers, "batch": batch, "demo": demo},
}.items():
    for _name, _folder in _folders.items():
        app.add_typer(_folder, name=_name, rich_help_panel=_group)


def main() -> None:
    """The entry point: a user's mistake becomes one message and exit code 2."""
    os.environ.update(missing_defaults())  # before torch is imported
    try:
        with guarded_streams(), watched():
            app()
    except UserError as error:
        count = len(error.problems)
        warn(f"unharm: {error}" if count == 1 else f"unharm: {count} problems\n{error}")
        sys.exit(2)
    except OutputClosed as closed:
        if closed.reason:
            warn(f"unharm: cannot write the output: {closed.reason}")
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more says nothing new
            sys.exit(interrupt.exit_code())
        raise
    except OSError as error:
        warn(f"unharm: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        sys.exit(1)
    except Exception:
        warn(traceback.format_exc())  # without keys, which errors of libraries may quote
        sys.exit(1)


INTERRUPTED = 130
"""The exit code after Ctrl-C; see `interrupt.exit_code` for other signals."""

if __name__ == "__main__":
    main()
