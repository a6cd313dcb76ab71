"""Checks of the machine itself: versions, devices, memory, disk, speed, the hub, keys."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import torch

from unharm.core.models.memory import free_memory
from unharm.core.version import __version__
from unharm.executors.settings import processors
from unharm.runs.doctor.findings import Finding
from unharm.runs.planning.measure import copy_rate, launch_seconds, matrix_rate

PACKAGES = ("torch", "transformers", "peft", "vllm", "ray")
KEYS = ("HF_TOKEN", "OPENAI_API_KEY", "PERSPECTIVE_API_KEY")
"""Usual variables of keys. A study names those that it needs."""
LEAST_DISK, LEAST_MEMORY = 10, 4
"""GiB below which a warning is given."""
HUB_SECONDS = 5.0
"""How long the hub may take to answer."""


def check_versions() -> Finding:
    """Name the versions; warn of a torch that cannot use the accelerator of this machine."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    text = f"unharm {__version__}, Python {platform.python_version()}, {', '.join(found)}"
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "processors alone"
        return Finding(
            "versions",
            "fault",
            f"{text}; this machine has an NVIDIA driver that torch (built for {built}) cannot use",
            "install the build of torch for the driver's CUDA version, or update the driver",
        )
    return Finding("versions", "ok", text)


def check_devices(device: str) -> Finding:
    """Name processors and accelerators."""
    cores = processors()
    if not device.startswith("cuda"):
        text = f"{cores} processors, no accelerator in use"
        todo = "" if cores > 1 else "one processor is enough for the toy alone"
        return Finding("devices", "ok" if cores > 1 else "warning", text, todo, {"processors": cores})
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    capability = torch.cuda.get_device_capability(device)
    text = f"{len(names)} accelerators ({', '.join(sorted(set(names)))}), {cores} processors"
    if capability < (8, 0):
        return Finding("devices", "warning", text, "it has no bfloat16: set engine.dtype to float16")
    memory = torch.cuda.get_device_properties(device).total_memory / 2**30
    figures = {"accelerators": len(names), "processors": cores, "memory_gib": memory}
    return Finding("devices", "ok", text, figures={**figures})


def check_memory(device: str) -> Finding:
    """Name the memory of machine and accelerator; warn where little is free."""
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    text, figures = f"{free:.1f} of {total:.1f} GiB free", {"free_gib": round(free, 1)}
    if device.startswith("cuda"):
        there = free_memory(torch.device(device)) / 2**30
        whole = torch.cuda.get_device_properties(device).total_memory / 2**30
        text += f"; accelerator: {there:.1f} of {whole:.1f} GiB free"
        figures["accelerator_free_gib"] = round(there, 1)
        if there < 0.8 * whole:
            return Finding("memory", "warning", text, "end what else uses the accelerator", {**figures})
    if free < LEAST_MEMORY:
        return Finding("memory", "warning", text, "end other programs, or take a smaller base", {**figures})
    return Finding("memory", "ok", text, figures={**figures})


def check_disk(folder: Path) -> Finding:
    """Name the free disk where runs are written."""
    free = shutil.disk_usage(folder).free / 2**30
    text = f"{free:.1f} GiB free in {folder}"
    if free < LEAST_DISK:
        return Finding(
            "disk", "warning", text, "`unharm plan STUDY --hardware here` says how much a study stores"
        )
    return Finding("disk", "ok", text, figures={"free_gib": round(free, 1)})


def check_speed(device: str) -> Finding:
    """Measure matrix products, copies and the time that the host takes to start an operation."""
    kind = torch.bfloat16 if device.startswith("cuda") else torch.float32
    tflops, bandwidth = matrix_rate(device, kind), copy_rate(device, kind)
    launch = 1e6 * launch_seconds(device)
    text = f"{tflops:.3g} TFLOP/s, {bandwidth:.3g} GB/s, {launch:.1f} µs to start an operation"
    figures = {"tflops": tflops, "bandwidth": bandwidth, "launch_us": launch}
    if launch > 30:
        todo = "the processors are slow or busy: end other work; on a GPU the host then sets the pace"
        return Finding("speed", "warning", text, todo, {**figures})
    return Finding("speed", "ok", text, figures={**figures})


def check_hub() -> Finding:
    """Ask the model hub for a sign of life."""
    from huggingface_hub import constants

    where = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "not here", "HF_HUB_OFFLINE is set", "give bases and data sets as folders")
    request = urllib.request.Request(where, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return Finding("hub", "ok", f"{where} answers")
    except urllib.error.HTTPError as error:  # it answers, and that is all that is asked
        return Finding("hub", "ok", f"{where} answers (HTTP {error.code})")
    except (OSError, ValueError) as error:
        reason = type(getattr(error, "reason", error)).__name__
        todo = "give bases and data sets as folders, or set HTTPS_PROXY or HF_ENDPOINT"
        return Finding("hub", "warning", f"{where} does not answer ({reason})", todo)


def check_keys() -> Finding:
    """Say which of the usual keys are set. Their values are shown nowhere."""
    there = [name for name in KEYS if os.environ.get(name)]
    absent = [name for name in KEYS if name not in there]
    parts = [f"{', '.join(there)} set"] if there else []
    parts += [f"{', '.join(absent)} not set"] if absent else []
    return Finding("keys", "ok", f"{'; '.join(parts)} (a study names those that it needs)")
