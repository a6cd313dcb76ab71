"""A Ray cluster that is there already: connected, looked over before any work, and its workers.

Workers are actors: each opens the run once, loads base, engines and classifiers once, and does chunk after
chunk. What they make goes through the store; Ray carries names of pieces and counts. Nothing that is not
ours is started or stopped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unharm.errors import Problem, UserError, raise_all
from unharm.executors.chunks import Chunk, Job, Outcome, Worker
from unharm.executors.settings import Demand, ExecutorSpec
from unharm.progress import Progress, say

if TYPE_CHECKING:
    from unharm.pipeline import Run

PACKAGES = ("unharm", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "polars",
            "scikit-learn", "alt-profanity-check", "vaderSentiment")  # fmt: skip
"""Packages whose versions results may depend on: the same on every node."""
MOMENT = 1.0
TOLD_EVERY = 5.0
PATIENCE = 60.0
"""Seconds that a node has to answer, and between two words about workers that wait for room."""
STARTS = 3
"""So many workers in a row that cannot even be started mean that none can."""


class Cluster:
    """The connection to a cluster. Raises `UserError` where Ray is not installed or nothing is there."""

    def __init__(self, spec: ExecutorSpec):
        if find_spec("ray") is None:
            raise UserError("Ray is not installed", "executor", "pip install 'unharm[ray]'")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self.ray: Any = ray
        self.ours = not ray.is_initialized()
        if self.ours:
            self._connect(_address(spec))

    def _connect(self, address: str) -> None:
        try:
            self.ray.init(
                address=address, namespace="unharm", log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, TimeoutError, ValueError):
            raise _no_cluster(address) from None
        except RuntimeError as error:
            if "ersion mismatch" not in str(error):
                raise
            told = " ".join(str(error).split())[:400]
            what = f"the cluster runs another version of Ray or Python: {told}"
            raise UserError(what, "executor", "install the same versions on all nodes") from None

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    @property
    def has_accelerators(self) -> bool:
        return any(node["Resources"].get("GPU", 0) > 0 for node in self.nodes)

    def room(self, wanted: Demand) -> int:
        """How many workers fit into the cluster now; at least one."""
        return max(1, sum(_room(node["Resources"], wanted) for node in self.nodes))

    def check(self, run: Run, demands: list[Demand]) -> None:
        """Looks whether every task fits on some node, and whether all nodes have the same packages and
        see the same files. Raises one `UserError` with all that is wrong."""
        problems: dict[Problem, None] = {}
        for wanted in demands:
            problems |= dict.fromkeys(_too_little(self.nodes, wanted))
        problems |= dict.fromkeys(self._differences(run))
        raise_all(list(problems))

    def _differences(self, run: Run) -> list[Problem]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        run.store.write_plain(".seen", f"{time.time_ns()}")
        needed, same = paths_of(run), _versions()
        look = self.ray.remote(num_cpus=0, max_retries=0)(_looker())
        sent = {
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(needed, PACKAGES): node
            for node in self.nodes
        }
        _, late = self.ray.wait(list(sent), num_returns=len(sent), timeout=PATIENCE)
        problems = []
        for answer, node in sent.items():
            name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            if answer in late:
                problems.append(
                    Problem(f"no answer within {PATIENCE:g} s", name, "look at it with 'ray status'")
                )
                continue
            try:
                versions, missing = self.ray.get(answer)
            except self.ray.exceptions.RayError as error:
                problems.append(Problem(f"it cannot work: {type(error).__name__}", name))
                continue
            for package, here in same.items():
                if versions.get(package) != here:
                    there = versions.get(package) or "not installed"
                    what = f"{package} {there}, but {here} where the run is started"
                    problems.append(Problem(what, name, "install the same versions on all nodes"))
            for field, path in missing:
                todo = "put it on a disk that all nodes share"
                problems.append(Problem(f"{field} is not to be seen from there: {path}", name, todo))
        if run.store.remote is None:  # a run that is refused leaves nothing behind
            with contextlib.suppress(OSError):
                (run.store.root / ".seen").unlink()
                (run.store.root / ".tmp").rmdir()
                run.store.root.rmdir()
        return problems

    def actors(self, job: Job, wanted: Demand, size: int) -> Actors:
        return Actors(self.ray, job, wanted, size)

    def leave(self) -> None:
        """Ends the connection, where it is ours; the cluster goes on."""
        if self.ours:
            self.ray.shutdown()


def _address(spec: ExecutorSpec) -> str:
    """Where the cluster is, once something answers there: Ray itself would wait a minute, and then end this
    process. Raises `UserError` where nothing does."""
    from ray._private.services import canonicalize_bootstrap_address

    wanted = spec.address or os.environ.get("RAY_ADDRESS") or "auto"
    if wanted.startswith("ray://"):
        todo = "start unharm on a node of the cluster, and name its address as host:port, or leave it out"
        raise UserError("the address of a Ray client", "executor.address", todo)
    try:
        found = wanted if wanted != "auto" else canonicalize_bootstrap_address("auto")
        host, _, port = str(found or "").rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, ConnectionError):
        raise _no_cluster(wanted) from None
    return str(found)


def _no_cluster(address: str) -> UserError:
    what = "no Ray cluster here" if address == "auto" else f"no Ray cluster at {address}"
    todo = "start one with 'ray start --head', or name its address (executor.address, RAY_ADDRESS)"
    return UserError(what, "executor.address" if address != "auto" else "executor", todo)


def _room(resources: dict[str, float], wanted: Demand) -> int:
    fits = [resources.get("CPU", 0) // wanted.cpus]
    if wanted.gpus:
        fits.append(resources.get("GPU", 0) // wanted.gpus)
    if wanted.memory:
        fits.append(resources.get("memory", 0) // (wanted.memory * 2**30))
    return int(min(fits))


def _too_little(nodes: list[dict[str, Any]], wanted: Demand) -> list[Problem]:
    """What no node has enough of for one task."""
    if any(_room(node["Resources"], wanted) for node in nodes):
        return []
    asked = {"cpus": ("CPU", wanted.cpus, 1), "gpus": ("GPU", wanted.gpus, 1)}
    asked["memory"] = ("memory", wanted.memory or 0, 2**30)
    found = []
    for field, (name, amount, unit) in asked.items():
        most = max((node["Resources"].get(name, 0) / unit for node in nodes), default=0)
        if amount > most:
            what = f"one task asks for {amount:g} {field}, the largest node has {most:g}"
            found.append(Problem(what, f"executor.{field}", "ask for less, or start a larger node"))
    return found or [Problem("no node has all that one task asks for", "executor", "ask for less")]


def paths_of(run: Run) -> list[tuple[str, str]]:
    """The field and absolute path of everything that a worker reads or writes; the run folder by a file
    in it with something new."""
    study, found = run.study, []
    if run.store.remote is None:
        found.append(("the run folder (output)", str(Path(run.store.location) / ".seen")))
    if study.needs_base and run.base.path != Path() and not run.base.revision:
        found.append(("the base", str(run.base.path.absolute())))
    if study.data != "toy":
        found.append(("data", str(study.data_folder.absolute())))
        found += [
            (f"benchmarks.{b}.file", str(study.prompt_file(b).absolute()))
            for b in study.benchmarks.chosen()
        ]
    for place, source in enumerate(study.profiles):
        if source.file:
            found.append((f"profiles[{place}]", str(Path(source.file).expanduser().absolute())))
    if Path(study.prompting.pack).is_file():
        found.append(("prompting.pack", str(Path(study.prompting.pack).absolute())))
    return found


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def _looker() -> Callable[..., Any]:
    """What looks around on a node. It is sent as it is: unharm may not be there."""

    def look(
        needed: list[tuple[str, str]], packages: tuple[str, ...]
    ) -> tuple[dict[str, str], list[tuple[str, str]]]:
        import os
        import platform
        from importlib import metadata

        versions = {"python": platform.python_version()}
        for name in packages:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = ""
        return versions, [(field, path) for field, path in needed if not os.path.exists(path)]

    return look


class Actors:
    """Workers on a cluster; one that is lost is started again where there is room, its chunk given
    again."""

    def __init__(self, ray: Any, job: Job, wanted: Demand, size: int):
        self.size = size
        self._ray, self._job, self._wanted = ray, job, wanted
        self._make = ray.remote(
            num_cpus=wanted.cpus,
            num_gpus=wanted.gpus,
            memory=int(wanted.memory * 2**30) if wanted.memory else None,
            max_concurrency=2,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(job.threads)}},
        )(Worker)
        self._idle: list[Any] = []
        self._going: dict[Any, tuple[Any, Chunk]] = {}
        self._told: dict[Any, Any] = {}
        self._heard = self._warned = time.monotonic()

    def give(self, chunk: Chunk) -> None:
        worker = self._idle.pop() if self._idle else self._make.remote(self._job)
        self._going[worker.do.remote(chunk)] = worker, chunk

    def wait(self, progress: Progress) -> list[tuple[Chunk, Outcome]]:
        ready, _ = self._ray.wait(list(self._going), num_returns=1, timeout=MOMENT)
        found = []
        for answer in ready:
            worker, chunk = self._going.pop(answer)
            try:
                outcome = self._ray.get(answer)
                progress.add(self._ray.get(worker.take.remote()))
                self._idle.append(worker)
            except self._ray.exceptions.RayError as error:
                say(f"a worker was lost ({type(error).__name__}); its work is given to another")
                self._end(worker)
                outcome = Outcome("lost")
            found.append((chunk, outcome))
        self._hear(progress)
        return found

    def _hear(self, progress: Progress) -> None:
        """Asks workers that are busy what they have done; says where they wait for room."""
        now = time.monotonic()
        if now - self._heard < TOLD_EVERY:
            return
        self._heard = now
        for worker, _ in self._going.values():
            if worker not in self._told:
                self._told[worker] = worker.take.remote()
        answered, silent = (
            self._ray.wait(list(self._told.values()), num_returns=len(self._told), timeout=0.1)
            if self._told
            else ([], [])
        )
        for worker, answer in list(self._told.items()):
            if answer in answered:
                del self._told[worker]
                with contextlib.suppress(self._ray.exceptions.RayError):  # its chunk tells of it
                    progress.add(self._ray.get(answer))
        if silent and len(silent) == len(self._going) and now - self._warned > PATIENCE:
            self._warned = now
            say(f"waiting for the cluster: {len(silent)} workers with {self._wanted.cpus} CPUs and "
                f"{self._wanted.gpus:g} GPUs each do not answer yet")  # fmt: skip

    def stop(self) -> None:
        for worker, _ in self._going.values():
            worker.stop.remote()

    def close(self) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._going.values())]:
            self._end(worker)
        self._idle.clear()
        self._going.clear()

    def _end(self, worker: Any) -> None:
        self._told.pop(worker, None)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker)
