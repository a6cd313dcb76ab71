"""The part of the spec that says where the work is done, and what one task asks for."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field

from unharm.core.spec import Positive, Spec

LARGE = 1 << 29
"""Bytes of a base from which on it is worth all processors."""
SMALL, ON_CLUSTER = 2, 8
"""Processors of a task with a small base, and with a large one on a cluster."""

Share = Annotated[float, Field(ge=0)]


class Asked(Spec):
    """What one task of a stage asks for; what is left out is that of all stages."""

    cpus: Positive | None = None
    gpus: Share | None = None
    memory: Annotated[float, Field(gt=0)] | None = Field(None, description="GiB")


class ExecutorSpec(Spec):
    """`local`: this machine; `ray`: a Ray cluster that is there already.

    `cpus` are the processors of one task and torch's threads in it, on every executor: on a CPU the last
    bits of a sum depend on how many threads share it. `auto`: 2; for a base of more than half a gigabyte
    all of this machine, or 8 on a cluster. `OMP_NUM_THREADS`, where it is set, counts instead.
    """

    name: Literal["local", "ray"] = "local"
    address: str | None = Field(None, description="of the Ray cluster; else RAY_ADDRESS, else the one here")
    workers: Literal["auto"] | Positive = "auto"
    cpus: Literal["auto"] | Positive = "auto"
    gpus: Share | None = Field(None, description="of one task; left out: 1 where there are any to be had")
    memory: Annotated[float, Field(gt=0)] | None = Field(None, description="GiB of one task, for Ray")
    stages: dict[str, Asked] = Field({}, description="what single stages ask for instead")


class Demand(Spec):
    """What one worker gets: processors (and threads), accelerators, GiB of memory."""

    cpus: int
    gpus: float
    memory: float | None = None


def threads(spec: ExecutorSpec, base: int) -> int:
    """Torch's threads in one task with a base of so many bytes: the user's `OMP_NUM_THREADS`, or the
    processors of a task."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    if spec.cpus != "auto":
        return spec.cpus
    if base <= LARGE:
        return SMALL
    return processors() if spec.name == "local" else ON_CLUSTER


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def demand(spec: ExecutorSpec, stage: str, with_model: bool, gpus_there: bool, base: int) -> Demand:
    """What one worker of a stage gets, for a base of so many bytes. A stage without a model needs no
    accelerator and one processor."""
    own = spec.stages.get(stage, Asked())
    gpus = own.gpus if own.gpus is not None else spec.gpus
    if gpus is None:
        gpus = 1.0 if gpus_there else 0.0
    cpus = own.cpus or (threads(spec, base) if with_model else 1)
    return Demand(cpus=cpus, gpus=gpus if with_model else 0.0, memory=own.memory or spec.memory)
