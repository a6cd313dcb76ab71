"""Settings of the executor: where chunks run, and the resources of one worker."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from unharm.core.spec import Amount, AmountOrZero, Count, Spec

LARGE_BASE = 1 << 29
"""A base with more bytes than this gets all processors."""
LOCAL_CPUS, CLUSTER_CPUS = 2, 8
"""Processors of a worker with a small base, and with a large base on a cluster."""

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time in a period, and the period; or `max`, and the period."""

Share = AmountOrZero


class StageResources(Spec):
    """Resources of one task of a stage. Missing fields default to those of all stages."""

    cpus: Count | None = None
    gpus: Share | None = None
    memory: Amount | None = Field(None, description="GiB")


class ExecutorSpec(Spec):
    """Settings of the executor. `local`: this machine; `ray`: a running Ray cluster.

    `cpus` is the number of processors of one task and of its torch threads, on every executor: on a CPU,
    the last bits of a sum depend on the number of threads. `auto` means 2, and for a base of more than
    half a gigabyte all processors of this machine, or 8 on a cluster. `OMP_NUM_THREADS` overrides it.
    """

    name: Literal["local", "ray"] = "local"
    address: str | None = Field(
        None, description="of the Ray cluster; default: RAY_ADDRESS, else a cluster on this machine"
    )
    workers: Literal["auto"] | Count = "auto"
    cpus: Literal["auto"] | Count = "auto"
    gpus: Share | None = Field(None, description="of one task; default: 1 if there are any")
    memory: Amount | None = Field(None, description="GiB of one task, for Ray")
    stages: dict[str, StageResources] = Field({}, description="resources of single stages")


class Demand(Spec):
    """Resources of one worker: processors (and threads), accelerators, memory in GiB."""

    cpus: int
    gpus: float
    memory: float | None = None


def threads(spec: ExecutorSpec, base: int) -> int:
    """Return the number of torch threads of one worker, for a base of `base` bytes.

    `OMP_NUM_THREADS` overrides the settings.
    """
    variable = os.environ.get("OMP_NUM_THREADS", "")
    if variable.isdecimal() and int(variable):
        return int(variable)
    if spec.cpus != "auto":
        return spec.cpus
    if base <= LARGE_BASE:
        return LOCAL_CPUS
    return processors() if spec.name == "local" else CLUSTER_CPUS


def processors() -> int:
    """Return the number of processors that this process may use, within the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups, or no quota
        return count


def demand(spec: ExecutorSpec, stage: str, with_model: bool, has_gpus: bool, base: int) -> Demand:
    """Return the resources of one worker.

    Args:
        spec: The executor's settings.
        stage: The stage.
        with_model: Whether the stage runs a model. Without one, a worker gets one processor.
        has_gpus: Whether there are accelerators to use.
        base: Size of the base in bytes.
    """
    stage_spec = spec.stages.get(stage, StageResources())
    gpus = stage_spec.gpus if stage_spec.gpus is not None else spec.gpus
    if gpus is None:
        gpus = 1.0 if has_gpus else 0.0
    cpus = stage_spec.cpus or (threads(spec, base) if with_model else 1)
    return Demand(cpus=cpus, gpus=gpus if with_model else 0.0, memory=stage_spec.memory or spec.memory)
