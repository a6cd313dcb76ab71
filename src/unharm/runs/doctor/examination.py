"""All checks in order, each with one line; what they found is written for `unharm plan --hardware`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from unharm.core.errors import UserError
from unharm.core.models.device_fault import accelerator_dead
from unharm.core.models.memory import keep_freed_memory
from unharm.core.version import __version__
from unharm.runs.context import Run
from unharm.runs.doctor import machine
from unharm.runs.doctor.findings import Finding, worst
from unharm.runs.doctor.generation_checks import check_engine, check_hand_over
from unharm.runs.doctor.training_checks import (
    STEPS,
    WARM_UP,
    check_fifty_steps,
    check_out_of_memory,
    check_step,
)
from unharm.runs.doctor.trial import trial_run
from unharm.runs.manifest import hardware

FORM = 1
"""Version of the file's form."""
FEW_ARGUMENTS = 80
"""Arguments of the short training: eight steps."""


@dataclass
class Examination:
    """The checks of one machine with one base.

    Attributes:
        base: The base, as in a study.
        device: The device; `auto` takes an accelerator where there is one.
        folder: A folder for what is trained and completed.
        findings: What was found so far.
    """

    base: str
    device: str
    folder: Path
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device.startswith("cuda:") and torch.cuda.is_available():
            torch.cuda.set_device(self.device)
        self._run: Run | None = None
        self._again = 0

    def checks(self) -> Iterator[Finding]:
        """Run all checks; yield each finding when it is there. A check that fails does not stop the others,
        unless they need what it makes, or the accelerator takes no more work."""
        device = self.device
        quick: list[tuple[str, Callable[[], Finding]]] = [
            ("versions", machine.check_versions),
            ("devices", lambda: machine.check_devices(device)),
            ("memory", lambda: machine.check_memory(device)),
            ("disk", lambda: machine.check_disk(Path.cwd())),
            ("speed", lambda: machine.check_speed(device)),
            ("hub", machine.check_hub),
            ("keys", machine.check_keys),
            ("base", self._load),
        ]
        for name, check in quick:
            yield self._one(name, check)
        if self._run is None:
            return
        run = self._run
        with run:
            for name, check in (
                ("training", lambda: check_step(run, device)),
                (
                    "fifty steps",
                    lambda: check_fifty_steps(self._fresh(), device, self._figure("speed", "tflops")),
                ),
                ("generation", lambda: check_engine(run, device)),
                ("out of memory", self._out_of_memory),
                ("one process", lambda: check_hand_over(run, device, self.folder / "classifier")),
            ):
                yield self._one(name, check)
                if accelerator_dead():
                    break

    def record(self) -> dict[str, Any]:
        """Return everything as plain data: the content of `doctor.json`."""
        run = self._run
        rates = {
            "training": self._figure("fifty steps", "tokens_per_second"),
            "reading": self._figure("generation", "reading"),
            "writing": self._figure("generation", "writing"),
        }
        base = {"name": self.base, "parameters": self._figure("base", "parameters")}
        return {
            "form": FORM,
            "unharm": __version__,
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "level": worst(self.findings),
            "machine": hardware(),
            "device": {
                "kind": self.device,
                "memory_gib": self._figure("devices", "memory_gib") or None,
                "tflops": self._figure("speed", "tflops"),
                "bandwidth": self._figure("speed", "bandwidth"),
                "launch_us": self._figure("speed", "launch_us"),
            },
            "base": base if run is not None else None,
            "rates": rates,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def _one(self, name: str, check: Callable[[], Finding]) -> Finding:
        try:
            finding = check()
        except UserError as error:
            problem = error.problems[0]
            finding = Finding(name, "fault", problem.message, problem.todo or "see the documentation")
        except Exception as error:  # whatever a machine can be missing
            first = (str(error).splitlines() or [""])[0][:200]
            finding = Finding(
                name, "fault", f"{type(error).__name__}: {first}", "report this with doctor.json"
            )
        self.findings.append(finding)
        return finding

    def _load(self) -> Finding:
        """Load tokenizer and weights onto the device."""
        keep_freed_memory()
        began = time.perf_counter()
        run = trial_run(self.base, self.folder / "trial", self.device, FEW_ARGUMENTS, 1)
        model = run.loaded.model
        _ = run.loaded.tokenizer
        seconds = time.perf_counter() - began
        parameters, gib = model.num_parameters(), run.base.bytes / 2**30
        self._run = run
        dtype = str(model.dtype).removeprefix("torch.")
        text = (
            f"{self.base}: {parameters / 1e6:,.0f} million parameters in {dtype}, ready in {seconds:.1f} s"
        )
        figures: dict[str, float | int | str] = {"parameters": parameters, "gib": gib, "seconds": seconds}
        return Finding("base", "ok", text, figures=figures)

    def _fresh(self) -> Run:
        """Return another trial on the base that is loaded, with enough steps for the measurement."""
        assert self._run is not None
        self._again += 1
        epochs = 2 + (WARM_UP + STEPS) * 8 // (FEW_ARGUMENTS // 2)
        place = self.folder / f"trial-{self._again}"
        return trial_run(self.base, place, self.device, FEW_ARGUMENTS, epochs, self._run.loaded)

    def _out_of_memory(self) -> Finding:
        assert self._run is not None
        place = self.folder / "trial-memory"
        run = trial_run(self.base, place, self.device, FEW_ARGUMENTS, 1, self._run.loaded)
        return check_out_of_memory(run, self.device, self._figure("fifty steps", "peak_gib"))

    def _figure(self, finding: str, name: str) -> float:
        """Return a measured figure; 0 where it was not measured."""
        figures = next((f.figures for f in self.findings if f.name == finding), {})
        return float(figures.get(name, 0))


def examine(base: str, device: str, out: Path, show: Callable[[str], None]) -> dict[str, Any]:
    """Run all checks, show each line, and write the record.

    Args:
        base: The base, as in a study.
        device: The device, as in a study.
        out: The file to write.
        show: Shows one line.

    Returns:
        What was written.

    Raises:
        UserError: The file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="unharm-doctor-") as folder:
        examination = Examination(base, device, Path(folder))
        for finding in examination.checks():
            show(str(finding))
        record = examination.record()
    try:
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write the file: {error.strerror or error}", str(out), "see --out"
        ) from None
    return record
