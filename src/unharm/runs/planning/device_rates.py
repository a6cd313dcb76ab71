"""Rates of a device for a base: by its data sheet, by a short measurement, or by what the doctor measured.

A step of decoding is counted as the sum of three things, as if nothing overlapped. For 7 billion parameters
without grouped heads, rows of 250 tokens, on a card of 989 TFLOP/s, 80 GiB and 3,350 GB/s:

    memory      72 GiB − 13 GiB of weights hold the keys and values (0.5 MiB a token) of 480 rows
    products    480 rows through all weights: 7 ms, more than the 4 ms to read the weights
    attention   half of these keys and values are read: 9 ms
    host        32 layers × 72 operations × 12 µs to start one: 28 ms, whatever the card can do

so about (7 + 9) / 0.5 + 28 = 60 ms for 480 tokens.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unharm.core.errors import UserError

TRAINING_EFFICIENCY, READING_EFFICIENCY, WRITING_EFFICIENCY = 0.35, 0.4, 0.5
"""Assumed efficiencies: shares of the peak arithmetic in training and in reading prompts, and of the bound
in decoding."""
PREFIX_SHARING = 2.5
"""Tokens of examples or prompts per computed token: shared prefixes are computed once."""
DECODED_ROWS = 512
"""Most rows that are decoded together."""
USED_MEMORY = 0.9
"""Share of the memory for weights, keys and values."""
DECODING_OPERATIONS, TRAINING_OPERATIONS = 72, 260
"""Operations per layer that the host starts for one token of all rows, and for one step of training."""
LAUNCH_SECONDS = 6e-6
"""Assumed seconds that the host needs to start an operation on a GPU."""
HOST_FACTOR = 2.0
"""The host also runs the model's Python: its time is this multiple of that for the bare operations."""
ACTIVATIONS = 34
"""Values per layer, token and place of the hidden state that a step of training keeps."""
ROW_TOKENS = 250.0
"""Tokens of a row, prompt and completion, where the study is not known."""
SIMILAR = 1.3
"""A base that differs by less than this factor in size has the rates that the doctor measured."""


@dataclass(frozen=True)
class Rates:
    """Rates of one worker, in tokens per second.

    Attributes:
        name: Name of the hardware.
        count: Number of workers.
        training: Tokens of training examples per second.
        reading: Prompt tokens per second.
        writing: New tokens per second.
        source: Where the rates come from.
        gpu: Whether the worker has a GPU.
        price: Price of one worker per hour; None if unknown.
    """

    name: str
    count: int
    training: float
    reading: float
    writing: float
    source: str
    gpu: bool = True
    price: float | None = None


@dataclass(frozen=True)
class ModelShape:
    """The size of a base: parameters, layers, width of the hidden state and of a layer's keys."""

    parameters: float
    layers: float
    width: float
    key_width: float

    @property
    def key_value_bytes(self) -> float:
        """Bytes of the keys and values of one token, in 16 bits."""
        return 2 * 2 * self.layers * self.key_width


def model_shape(base: str, parameters: float) -> ModelShape:
    """Return the shape of a base: from its configuration where it is on this machine, else estimated from
    the number of parameters (P = 12 · layers · width², layers = width / 128, no grouped heads)."""
    width = float((parameters * 128 / 12) ** (1 / 3))
    estimated = ModelShape(parameters, width / 128, width, width)
    try:
        config = json.loads(_config_file(base).read_text(encoding="utf-8"))
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        head = int(config.get("head_dim") or hidden // heads)
        keys = int(config.get("num_key_value_heads") or heads)
        return ModelShape(parameters, int(config["num_hidden_layers"]), hidden, keys * head)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, AttributeError):
        return estimated


def _config_file(base: str) -> Path:
    """Return the configuration of a base: in its folder, or in the cache of the hub."""
    folder = Path(base).expanduser()
    if not folder.is_dir() and base.count("/") == 1:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(base, "config.json")
        if isinstance(cached, str):
            return Path(cached)
    return folder / "config.json"


def rates_by_sheet(
    name: str, count: int, shape: ModelShape, sheet: dict[str, float], source: str,
    row_tokens: float = ROW_TOKENS, price: float | None = None,
) -> Rates:  # fmt: skip
    """Return the rates of a device.

    Args:
        name: Its name.
        count: The number of devices.
        shape: The base.
        sheet: Its tflops, bandwidth (GB/s), memory (GiB) and, where known, launch (seconds).
        source: Where the sheet comes from.
        row_tokens: Tokens of a row of the study, prompt and completion.
        price: Price of one device per hour.

    Raises:
        UserError: The base does not fit into the memory.
    """
    weights, memory = 2 * shape.parameters, sheet["memory"] * 2**30
    if weights > USED_MEMORY * memory:
        raise UserError(
            f"a base of {shape.parameters / 1e9:.1f} billion parameters does not fit into "
            f"{sheet['memory']:g} GiB",
            f"--hardware {name}",
            "choose larger hardware",
        )
    flops, bandwidth = sheet["tflops"] * 1e12, sheet["bandwidth"] * 1e9
    launch = HOST_FACTOR * sheet.get("launch", LAUNCH_SECONDS)
    free = USED_MEMORY * memory - weights
    work = flops / weights
    rows = float(max(1, math.floor(min(DECODED_ROWS, free / (shape.key_value_bytes * row_tokens)))))
    attention = rows * shape.key_value_bytes * row_tokens / 2 / bandwidth
    device = (max(weights / bandwidth, rows / work) + attention) / WRITING_EFFICIENCY
    host = shape.layers * DECODING_OPERATIONS * launch
    per_token = 2 * ACTIVATIONS * shape.layers * shape.width
    in_a_step = max(512.0, min(65536.0, free / 2 / per_token))
    step = in_a_step / (TRAINING_EFFICIENCY * work / 2) + shape.layers * TRAINING_OPERATIONS * launch
    return Rates(
        name, count, PREFIX_SHARING * in_a_step / step, READING_EFFICIENCY * work,
        rows / (device + host), source, price=price,
    )  # fmt: skip


def measure_this_machine(
    count: int, shape: ModelShape, row_tokens: float = ROW_TOKENS, assumed: str = "assumed efficiencies"
) -> Rates:
    """Measure rates on this machine with a few seconds of matrix products, copies and small operations."""
    import torch

    from unharm.runs.planning.measure import copy_rate, launch_seconds, matrix_rate

    on_gpu = torch.cuda.is_available()
    device, kind = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    tflops, bandwidth, launch = matrix_rate(device, kind), copy_rate(device, kind), launch_seconds(device)
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30 if on_gpu else math.inf
    sheet = {"tflops": tflops, "bandwidth": bandwidth, "memory": memory, "launch": launch}
    name = torch.cuda.get_device_name(0) if on_gpu else "this machine's processors"
    source = f"measured here: {tflops:.3g} TFLOP/s, {bandwidth:.3g} GB/s; {assumed}"
    return replace(rates_by_sheet(name, count, shape, sheet, source, row_tokens), gpu=on_gpu)


def rates_of_doctor(path: Path, count: int, shape: ModelShape, row_tokens: float = ROW_TOKENS) -> Rates:
    """Return the rates that `unharm doctor` wrote, for `count` times its device.

    Those that it measured if its base has about the size of this one; else from the device's measured
    arithmetic, bandwidth and launches, with assumed efficiencies.

    Raises:
        UserError: The file is not the doctor's, or its machine cannot run a study.
    """
    todo = "write it again: unharm doctor BASE"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        device, rates, base = record["device"], record["rates"], record["base"] or {}
        on_gpu = str(device["kind"]).startswith("cuda")
        sheet = {name: float(device[name]) for name in ("tflops", "bandwidth")}
        sheet |= {
            "launch": float(device["launch_us"]) / 1e6,
            "memory": float(device["memory_gib"] or math.inf),
        }
        measured = {name: float(rates[name]) for name in ("training", "reading", "writing")}
        parameters = float(base.get("parameters", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"not a file of unharm doctor ({type(error).__name__})"
        raise UserError(message, str(path), todo) from None
    if not sheet["tflops"] or not sheet["bandwidth"]:
        raise UserError("the doctor could not measure this machine", str(path), todo)
    if all(measured.values()) and 1 / SIMILAR < shape.parameters / parameters < SIMILAR:
        source = f"measured by unharm doctor with {base.get('name')}"
        return Rates(path.stem, count, **measured, source=source, gpu=on_gpu)
    source = f"{sheet['tflops']:.3g} TFLOP/s, {sheet['bandwidth']:.3g} GB/s by unharm doctor"
    source += "; assumed efficiencies"
    return replace(rates_by_sheet(path.stem, count, shape, sheet, source, row_tokens), gpu=on_gpu)
