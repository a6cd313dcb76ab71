"""Estimated hours, GPU hours, storage and cost of a study on some hardware.

Rates come from a finished run (the best source), from a short measurement on this machine, or from
data sheets with assumed efficiencies. The result names its source.
"""

from __future__ import annotations

import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.yaml_text import SpecText, read_text
from unharm.core.progress import duration
from unharm.runs.plan import Plan
from unharm.runs.planning.device_rates import (
    PREFIX_SHARING,
    ROW_TOKENS,
    ModelShape,
    Rates,
    measure_this_machine,
    model_shape,
    rates_by_sheet,
    rates_of_doctor,
)
from unharm.runs.planning.services import CHARACTERS_PER_TOKEN
from unharm.runs.planning.summary import PlanSummary
from unharm.runs.reopen import open_run
from unharm.runs.shards import all_shards
from unharm.runs.status import status
from unharm.scoring.settings import asks_service
from unharm.store.checked import read_checked

SHEET = ("tflops", "bandwidth", "memory")
"""Numbers of a data sheet: TFLOPS of 16 bits, GB/s, GiB."""
MOST = 1e9
"""The largest number in a description of hardware."""
STORED_BYTES = {"completions": 190, "scores": 40}
"""Bytes of a completion and of its score in a run folder, from a dry run of the paper's study."""
PIPELINE_MS = 0.12
"""Processor milliseconds of the pipeline per completion, from a dry run."""
JUDGE_SECONDS = 2.0
"""Seconds per answer of a judge."""


def estimates(plan: Plan, summary: PlanSummary, names: list[str]) -> list[dict[str, Any]]:
    """Return an estimate for each kind of hardware.

    Args:
        plan: The plan of the study.
        summary: Its size.
        names: `NAME` or `NAMExN` from `hardware.yaml`, `here`, the folder of a finished run (its measured
            rates), the file of `unharm doctor`, or a YAML file with name, count, tflops, bandwidth, memory
            and price.

    Raises:
        UserError: A name is unknown, or the base does not fit into the memory.
    """
    parameters = parameter_count(plan.study.base)
    shape = model_shape(plan.study.base, parameters)
    _, tokens = training_size(plan)
    row_tokens = (summary.prompt_tokens + summary.most_new_tokens) / max(1, summary.completions)
    rates = [hardware_rates(name, shape, max(1.0, row_tokens)) for name in names]
    return [estimate(plan, summary, one, parameters, tokens) for one in rates]


def hardware_rates(name: str, shape: ModelShape, row_tokens: float = ROW_TOKENS) -> Rates:
    """Return the rates of some hardware for a base, with rows of this many tokens."""
    match = re.fullmatch(r"(.+?)x(\d+)", name)
    plain, count = (match[1], int(match[2][:20])) if match else (name, 1)
    if not 0 < count <= MOST:
        raise UserError("expected a number of devices", f"--hardware {name[:80]}", "for example h100x8")
    if plain == "here":
        return measure_this_machine(count, shape, row_tokens)
    if (Path(plain) / "status.json").is_file():
        return rates_of_run(Path(plain), count)
    if Path(name).suffix in (".yaml", ".yml"):
        return _of_file(Path(name), shape, row_tokens)
    if Path(plain).suffix == ".json":
        return rates_of_doctor(Path(plain), count, shape, row_tokens)
    known = yaml.safe_load(
        (resources.files("unharm.runs.planning") / "hardware.yaml").read_text(encoding="utf-8")
    )
    if plain not in known:
        raise UserError(f"unknown hardware {plain!r}", "--hardware", nearest(plain, (*known, "here")))
    source = f"data sheet of {plain}, assumed efficiencies"
    return rates_by_sheet(plain, count, shape, known[plain], source, row_tokens)


def _of_file(path: Path, shape: ModelShape, row_tokens: float) -> Rates:
    """Return the rates of hardware that a YAML file describes."""
    text = SpecText(read_text(path, "hardware"), str(path))
    given, problems = text.data, list(text.problems)
    wanted = [*SHEET, *(name for name in ("count", "price") if name in given)]
    for field in wanted:
        number = given.get(field)
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number <= MOST:
            todo = (
                "expected name, count, tflops, bandwidth (GB/s), memory (GiB) and perhaps price (an hour)"
            )
            message = f"no number above 0 and up to {MOST:,.0f} in {field!r}"
            problems.append(Problem(message, text.where((field,)), todo))
    raise_all(problems)
    sheet = {field: float(given[field]) for field in SHEET}
    name, count = str(given.get("name", path.stem)), int(given.get("count", 1))
    price = float(given["price"]) if "price" in given else None
    source = f"{path.name}, assumed efficiencies"
    return rates_by_sheet(name, count, shape, sheet, source, row_tokens, price)


def rates_of_run(folder: Path, count: int) -> Rates:
    """Return the rates of a finished run, for `count` times its workers.

    Raises:
        UserError: The last session of the run made no completions.
    """
    import polars as pl

    stages, run = status(str(folder)).stages, open_run(folder)
    rates = {name: stages[name].rate if name in stages else 0.0 for name in ("adapters", "completions")}
    if not rates["completions"]:
        todo = "give a run that made its completions in one go, without being stopped"
        raise UserError("its last session made no completions", str(folder), todo)
    frame = pl.concat([run.store.scan(s.completions).select("tokens") for s in all_shards(run)])
    written = float(frame.mean().collect().item())
    examples, tokens = training_size(run.plan)
    accelerators = json.loads(read_checked(run.store, "manifest.json") or "{}")["hardware"]["accelerators"]
    return Rates(
        str(folder),
        count,
        training=rates["adapters"] * tokens / max(examples, 1),
        reading=math.inf,  # included in the rate of writing
        writing=rates["completions"] * written,
        source=f"measured in {folder}",
        gpu=bool(accelerators),
    )


def parameter_count(base: str) -> float:
    """Return the number of parameters of a base, from its files or its name (`…-7b-…`).

    Raises:
        UserError: Neither shows the number.
    """
    folder = Path(base).expanduser()
    if base == "toy":
        return 3e6
    if folder.is_dir():
        return sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 2
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", base.lower())
    if not match:
        todo = "use a name such as org/name-7b-hf, or a folder"
        raise UserError(f"the size of {base!r} is unknown", "base", todo)
    return float(match[1]) * (1e9 if match[2] == "b" else 1e6)


def training_size(plan: Plan) -> tuple[int, float]:
    """Return the number of training examples over all adapters and epochs, and their estimated tokens."""
    sizes: dict[str, tuple[int, float]] = {}
    examples, tokens = 0, 0.0
    for adapter in plan.trained:
        if adapter.stage not in sizes:
            train = [e for e in plan.examples(adapter) if e.split == "train"]
            characters = sum(len(e.prompt) + len(e.answer) for e in train)
            sizes[adapter.stage] = len(train), characters / CHARACTERS_PER_TOKEN
        epochs = plan.recipe(adapter).epochs
        examples += sizes[adapter.stage][0] * epochs
        tokens += sizes[adapter.stage][1] * epochs
    return examples, tokens


def estimate(
    plan: Plan, summary: PlanSummary, rates: Rates, parameters: float, tokens: float
) -> dict[str, Any]:
    """Return the estimate for some rates; `tokens` is the number of training tokens."""
    completions = summary.completions
    seconds = {
        "adapters": tokens / rates.training if rates.training else 0.0,
        "completions": summary.prompt_tokens / PREFIX_SHARING / rates.reading
        + summary.most_new_tokens / rates.writing,
        "scores": completions * PIPELINE_MS / 1000,
    }
    hours = {stage: value / 3600 / rates.count for stage, value in seconds.items()}
    for use in summary.services:
        spec = plan.study.scorers[use.scorer]
        server = getattr(spec, "server", None)
        concurrency = server.concurrency if asks_service(spec) and server else 1
        hours["scores"] += max(use.hours or 0.0, use.calls * JUDGE_SECONDS / concurrency / 3600)
    rank = plan.study.training.lora.r
    shape = model_shape(plan.study.base, parameters)
    adapter_bytes = 4 * rank * 2 * 2 * shape.width * shape.layers
    stored = completions * sum(STORED_BYTES.values()) + len(plan.trained) * adapter_bytes
    worker_hours = (hours["adapters"] + hours["completions"]) * rates.count
    costs = [use.cost for use in summary.services]
    return {
        "hardware": rates.name, "count": rates.count, "source": rates.source, "parameters": parameters,
        "hours": {stage: round(value, 2) for stage, value in hours.items()},
        "hours_in_all": round(sum(hours.values()), 2),
        "gpu_hours": round(worker_hours, 2) if rates.gpu else 0.0,
        "storage_gib": round(stored / 2**30, 2),
        "machine_cost": round(worker_hours * rates.price, 2) if rates.price is not None else None,
        "service_cost": None if None in costs else round(sum(c for c in costs if c is not None), 2),
    }  # fmt: skip


def hardware_text(rows: list[dict[str, Any]]) -> str:
    """Return estimates as text."""
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
