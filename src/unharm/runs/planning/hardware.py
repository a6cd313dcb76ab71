"""How long a study takes, on what: hours, GPU hours, storage and money, before anything runs.

Rates come from a run that was made (the best source), from a measurement of some seconds on this machine,
or from data sheets with assumed efficiencies. The result says which.
"""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unharm.core.errors import UserError, nearest
from unharm.core.progress import duration
from unharm.runs.planning.services import CHARACTERS_PER_TOKEN
from unharm.runs.planning.summary import PlanSummary
from unharm.scoring.settings import ServiceSpec
from unharm.store.checked import read_checked

if TYPE_CHECKING:
    from unharm.runs.plan import Plan

TRAINING, READING, WRITING = 0.35, 0.4, 0.5
"""Assumed shares of what a data sheet allows: of arithmetic in training and reading prompts, of the bound
in decoding."""
SHARED = 2.5
"""So many tokens of training examples, and of prompts, stand on one computed token: prefixes are shared."""
ROWS = 512
"""Rows that are decoded together."""
BYTES = {"completions": 190, "scores": 40}
"""Of a completion and of its score in a run folder, as a dry run of the paper's plan leaves them."""
OWN_MS = 0.12
"""The pipeline's own processor time for a completion, as a dry run tells it."""
LATENCY = 2.0
"""Seconds that a judge takes for an answer."""


@dataclass(frozen=True)
class Rates:
    """What one worker does in a second: tokens of training examples, prompt tokens read, tokens written.
    `source` says where this is from; `price` is money for an hour of one worker, where it is known."""

    name: str
    count: int
    training: float
    reading: float
    writing: float
    source: str
    gpu: bool = True
    price: float | None = None


def estimates(plan: Plan, summary: PlanSummary, names: list[str]) -> list[dict[str, Any]]:
    """An estimate for each of some kinds of hardware: `NAME` or `NAMExN` of `hardware.yaml`, `here`, a
    finished run (its measured rates), or a YAML file with name, count, tflops, bandwidth, memory, price.

    Raises `UserError` for a name that is not known, or a base that does not fit.
    """
    parameters = parameters_of(plan.study.base)
    _, tokens = training_of(plan)
    return [estimate(plan, summary, rates_of(name, parameters), parameters, tokens) for name in names]


def rates_of(name: str, parameters: float) -> Rates:
    """The rates of some hardware for a base of so many parameters."""
    match = re.fullmatch(r"(.+?)x(\d+)", name)
    plain, count = (match[1], int(match[2])) if match else (name, 1)
    if plain == "here":
        return measured_here(count, parameters)
    if (Path(plain) / "status.json").is_file():
        return measured_in(Path(plain), count)
    if Path(name).suffix in (".yaml", ".yml"):
        return _of_file(Path(name), parameters)
    known = yaml.safe_load(
        (resources.files("unharm.runs.planning") / "hardware.yaml").read_text(encoding="utf-8")
    )
    if plain not in known:
        raise UserError(f"unknown hardware {plain!r}", "--hardware", nearest(plain, (*known, "here")))
    return _by_sheet(plain, count, parameters, known[plain], f"data sheet of {plain}, assumed efficiencies")


def _of_file(path: Path, parameters: float) -> Rates:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        sheet = {key: float(given[key]) for key in ("tflops", "bandwidth", "memory")}
        name, count = str(given.get("name", path.stem)), int(given.get("count", 1))
        price = float(given["price"]) if "price" in given else None
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError) as error:
        what = f"no description of hardware ({type(error).__name__}: {error})"
        todo = "expected name, count, tflops, bandwidth (GB/s), memory (GiB) and perhaps price (an hour)"
        raise UserError(what, str(path), todo) from None
    return _by_sheet(name, count, parameters, sheet, f"{path.name}, assumed efficiencies", price)


def _by_sheet(
    name: str,
    count: int,
    parameters: float,
    sheet: dict[str, float],
    source: str,
    price: float | None = None,
) -> Rates:
    if 2 * parameters > 0.9 * sheet["memory"] * 2**30:
        what = (
            f"a base of {parameters / 1e9:.1f} billion parameters does not fit into {sheet['memory']:g} GiB"
        )
        raise UserError(what, f"--hardware {name}", "name a larger one")
    work = sheet["tflops"] * 1e12 / (2 * parameters)
    decoding = ROWS / max(2 * parameters / (sheet["bandwidth"] * 1e9), ROWS / work)
    training = TRAINING * work / 2 * SHARED  # forward, and backward through frozen weights
    return Rates(name, count, training, READING * work, WRITING * decoding, source, price=price)


def measured_here(count: int, parameters: float) -> Rates:
    """Rates from a few seconds of matrix products and copies on this machine's device."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1024
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    a = torch.randn(size, size, device=device, dtype=kind)
    flops = 2 * size**3 / _seconds(lambda: a @ a, device)
    copied = torch.empty_like(a)
    bandwidth = 2 * a.numel() * a.element_size() / _seconds(lambda: copied.copy_(a), device)
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30 if device == "cuda" else math.inf
    sheet = {"tflops": flops / 1e12, "bandwidth": bandwidth / 1e9, "memory": memory}
    name = torch.cuda.get_device_name(0) if device == "cuda" else "this machine's processors"
    told = f"measured here: {flops / 1e12:.3g} TFLOP/s, {bandwidth / 1e9:.3g} GB/s; assumed efficiencies"
    return replace(_by_sheet(name, count, parameters, sheet, told), gpu=device == "cuda")


def _seconds(do: Any, device: str, least: float = 0.5) -> float:
    """Seconds of one call, over at least so many seconds of them."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    do()
    wait()
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < least:
        do()
        calls += 1
        wait()
    return (time.perf_counter() - began) / calls


def measured_in(folder: Path, count: int) -> Rates:
    """The rates that a finished run had, for `count` times its workers. Raises `UserError` where it made
    nothing itself in its last session."""
    import polars as pl

    from unharm.runs.reopen import open_run
    from unharm.runs.shards import all_shards
    from unharm.runs.status import status

    found, run = status(str(folder)), open_run(folder)
    rates = {
        name: found.stages[name].rate if name in found.stages else 0.0
        for name in ("adapters", "completions")
    }
    if not rates["completions"]:
        todo = "give a run that made its completions in one go, without being stopped"
        raise UserError("its last session made no completions", str(folder), todo)
    frame = pl.concat([run.store.scan(s.completions).select("tokens") for s in all_shards(run)])
    written = float(frame.mean().collect().item())
    examples, tokens = training_of(run.plan)
    accelerators = json.loads(read_checked(run.store, "manifest.json") or "{}")["hardware"]["accelerators"]
    return Rates(
        str(folder),
        count,
        training=rates["adapters"] * tokens / max(examples, 1),
        reading=math.inf,  # is in the rate of writing
        writing=rates["completions"] * written,
        source=f"measured in {folder}",
        gpu=bool(accelerators),
    )


def parameters_of(base: str) -> float:
    """The parameters of a base: of a folder by its files, else by its name (`…-7b-…`). Raises `UserError`
    where neither says it."""
    folder = Path(base).expanduser()
    if base == "toy":
        return 3e6
    if folder.is_dir():
        return sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 2
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", base.lower())
    if not match:
        todo = "use a name such as org/name-7b-hf, or a folder"
        raise UserError(f"nobody knows how large {base!r} is", "base", todo)
    return float(match[1]) * (1e9 if match[2] == "b" else 1e6)


def training_of(plan: Plan) -> tuple[int, float]:
    """Examples that all adapters learn, and their tokens by their characters, every epoch counted."""
    sizes: dict[str, tuple[int, float]] = {}
    examples, tokens = 0, 0.0
    for adapter in plan.trained:
        if adapter.stage not in sizes:
            own = [e for e in plan.examples(adapter) if e.split == "train"]
            characters = sum(len(e.prompt) + len(e.answer) for e in own)
            sizes[adapter.stage] = len(own), characters / CHARACTERS_PER_TOKEN
        epochs = plan.recipe(adapter).epochs
        examples += sizes[adapter.stage][0] * epochs
        tokens += sizes[adapter.stage][1] * epochs
    return examples, tokens


def estimate(
    plan: Plan, summary: PlanSummary, rates: Rates, parameters: float, tokens: float
) -> dict[str, Any]:
    """The estimate for some rates; `tokens` are those of the training examples."""
    completions = summary.completions
    seconds = {
        "adapters": tokens / rates.training if rates.training else 0.0,
        "completions": summary.prompt_tokens / SHARED / rates.reading
        + summary.most_new_tokens / rates.writing,
        "scores": completions * OWN_MS / 1000,
    }
    hours = {stage: value / 3600 / rates.count for stage, value in seconds.items()}
    for use in summary.services:
        spec = plan.study.scorers[use.scorer]
        many = spec.server.concurrency if isinstance(spec, ServiceSpec) and hasattr(spec, "server") else 1
        hours["scores"] += max(use.hours or 0.0, use.calls * LATENCY / many / 3600)
    rank = plan.study.training.lora.r
    adapter_bytes = 4 * rank * 2 * 2 * _width(parameters) * _layers(parameters)
    stored = completions * sum(BYTES.values()) + len(plan.trained) * adapter_bytes
    used = (hours["adapters"] + hours["completions"]) * rates.count
    money = [use.cost for use in summary.services]
    return {
        "hardware": rates.name, "count": rates.count, "source": rates.source, "parameters": parameters,
        "hours": {stage: round(value, 2) for stage, value in hours.items()},
        "hours_in_all": round(sum(hours.values()), 2),
        "gpu_hours": round(used, 2) if rates.gpu else 0.0,
        "storage_gib": round(stored / 2**30, 2),
        "machine_cost": round(used * rates.price, 2) if rates.price is not None else None,
        "service_cost": None if None in money else round(sum(m for m in money if m is not None), 2),
    }  # fmt: skip


def _width(parameters: float) -> float:
    """The hidden size of a decoder of so many parameters, about: P = 12 · layers · width², layers =
    width/128."""
    return float((parameters * 128 / 12) ** (1 / 3))


def _layers(parameters: float) -> float:
    return _width(parameters) / 128


def hardware_text(rows: list[dict[str, Any]]) -> str:
    """Estimates for people."""
    lines = ["", ""]
    for row in rows:
        hours = ", ".join(f"{stage} {duration(3600 * h)}" for stage, h in row["hours"].items())
        lines += [
            f"hardware    {row['count']} × {row['hardware']} ({row['source']})",
            f"time        {duration(3600 * row['hours_in_all'])} at most ({hours})",
            f"            {row['gpu_hours']:,.1f} GPU hours, {row['storage_gib']:,.1f} GiB of storage"
            + (f", {row['machine_cost']:,.2f} for the machines" if row["machine_cost"] is not None else "")
            + (f", {row['service_cost']:,.2f} for services" if row["service_cost"] else ""),
        ]
    return "\n".join(lines)
