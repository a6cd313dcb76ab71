"""Fuzz the parsers of what others made, guided by coverage.

    pip install atheris
    python tools/fuzz.py spec pack --seconds 600
    python tools/fuzz.py all --seconds 60 --findings fuzz

Every parser of `tests/support/parsers.py` takes bytes and may raise `UserError` alone. What else it raises,
and what takes longer than --slow seconds, is a finding. Its input is stored in --findings, the
search goes on. The last line is JSON: runs and findings by parser. Exit code 1 if there are findings.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parents[1]
LONGEST = 8192
"""Bytes of an input."""
MODULES = ["unharm", "yaml"]
"""What is instrumented: a new branch in it keeps an input."""
NOTED_EVERY = 2.0
"""Seconds between two updates of the count of runs."""


class Notes:
    """The runs of one parser and its findings, in a file that outlives the process."""

    def __init__(self, kind: str, folder: Path):
        self.kind, self.folder = kind, folder
        self.runs = 0
        self.findings: dict[str, str] = {}
        self._written = 0.0

    @property
    def file(self) -> Path:
        return self.folder / f"{self.kind}.json"

    def add(self, place: str, message: str, data: bytes) -> None:
        """Store an input, once for each place."""
        if place in self.findings:
            return
        name = f"{self.kind}-{hashlib.sha256(data).hexdigest()[:8]}"
        (self.folder / name).write_bytes(data)
        self.findings[place] = f"{name}: {message}"
        print(f"{self.kind}: {place}: {message} ({name})", flush=True)
        self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        self.file.write_text(json.dumps({"runs": self.runs, "findings": self.findings}))

    def count(self) -> None:
        self.runs += 1
        if time.monotonic() - self._written > NOTED_EVERY:
            self.write()


def place_of(error: BaseException) -> str:
    """Where an error was raised: its class and the last lines of unharm on the way."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/unharm/" in f.filename]
    lines = [f"{Path(f.filename).name}:{f.lineno}" for f in frames[-2:]]
    return f"{type(error).__name__} at {' > '.join(lines) or 'the check of the parser'}"


def fuzz(kind: str, seconds: int, folder: Path, slow: float) -> None:
    """Search in this process until the time is over."""
    import atheris  # type: ignore[import-untyped, unused-ignore]

    with atheris.instrument_imports(include=MODULES):
        from support.parsers import PARSERS, harmless, seeds
        from unharm.core.errors import UserError

    corpus = folder / "corpus" / kind
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(kind)):
        (corpus / f"seed-{number}").write_bytes(data)
    parse, notes = PARSERS[kind], Notes(kind, folder)
    scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def once(data: bytes) -> None:
        began = time.process_time()
        try:
            parse(data, scratch)
        except UserError as error:
            if not harmless(str(error)):
                notes.add("control characters in a message", repr(str(error))[:200], data)
        except Exception as error:
            notes.add(place_of(error), str(error).splitlines()[0][:200] if str(error) else "", data)
        took = time.process_time() - began
        if took > slow:
            notes.add("slow", f"{took:.1f} s", data)
        notes.count()

    once(b"")  # what is loaded on first use is no slow input
    notes.findings.pop("slow", None)
    options = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-rss_limit_mb=4096", "-timeout=60"]
    options += [f"-artifact_prefix={folder}/", "-verbosity=0", "-use_value_profile=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], once)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="+", help="parsers, or 'all'")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--findings", type=Path, default=Path("fuzz"), help="folder of inputs and corpora")
    parser.add_argument("--slow", type=float, default=5.0, help="seconds that an input may take")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    sys.path[:0] = [str(HERE / "tests"), str(HERE / "src")]
    words.findings.mkdir(parents=True, exist_ok=True)
    if words.here:
        fuzz(words.kinds[0], words.seconds, words.findings, words.slow)
        return
    from support.parsers import PARSERS

    kinds = list(PARSERS) if words.kinds == ["all"] else words.kinds
    if unknown := [kind for kind in kinds if kind not in PARSERS]:
        sys.exit(f"no parser {unknown[0]!r}; there are: {', '.join(PARSERS)}")
    results: dict[str, object] = {}
    for kind in kinds:
        words_of_it = [
            kind,
            "--seconds",
            str(words.seconds),
            "--findings",
            str(words.findings),
            "--slow",
            str(words.slow),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with (words.findings / f"{kind}.log").open("wb") as log:
            ended = subprocess.run(
                [sys.executable, __file__, "--here", *words_of_it], stderr=log, env=environment, check=False
            )
        notes = json.loads((words.findings / f"{kind}.json").read_text())
        if ended.returncode:
            notes["findings"][f"the process ended with {ended.returncode}"] = f"see {kind}.log"
        results[kind] = notes
        print(f"{kind:<18}{notes['runs']:>12,} runs  {len(notes['findings'])} findings", flush=True)
    print(json.dumps(results))
    sys.exit(any(notes["findings"] for notes in results.values()))  # type: ignore[index]


if __name__ == "__main__":
    main()
