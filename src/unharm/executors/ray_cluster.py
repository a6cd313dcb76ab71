"""A Ray cluster that is there already: connected, looked over before any work, and its workers.

Workers are actors: each opens the run once, loads base, engines and classifiers once, and does chunk after
chunk. What they make goes through the store; Ray carries names of pieces and counts. Nothing that is not
ours is started or stopped.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from unharm.core.errors import Problem, UserError, raise_all
from unharm.executors.chunks import Job
from unharm.executors.ray_actors import Actors
from unharm.executors.settings import Demand, ExecutorSpec

PACKAGES = ("unharm", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "polars",
            "scikit-learn", "alt-profanity-check", "vaderSentiment")  # fmt: skip
"""Packages whose versions results may depend on: the same on every node."""
PATIENCE = 60.0
"""Seconds that a node has to answer."""
TURNS = 5
"""How often nodes that give no answer are asked, a second apart: some have just gone or come."""


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
            # what Ray has to say of its nodes would go to standard output, where our JSON goes
            self.ray._private.worker._worker_logs_enabled = False
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

    def check(self, demands: list[Demand], needed: list[tuple[str, str]]) -> None:
        """Looks whether every task fits on some node, and whether all nodes have the same packages and
        see the same files. Raises one `UserError` with all that is wrong."""
        problems: dict[Problem, None] = {}
        for wanted in demands:
            problems |= dict.fromkeys(_too_little(self.nodes, wanted))
        problems |= dict.fromkeys(self._differences(needed))
        raise_all(list(problems))

    def _differences(self, needed: list[tuple[str, str]]) -> list[Problem]:
        """What is otherwise on some node than here. A node that leaves meanwhile is no problem, one that
        has just come is asked again."""
        here = _versions()
        problems: list[Problem] = []
        asked: set[str] = set()
        for turn in range(TURNS):
            new = [node for node in self.nodes if node["NodeID"] not in asked]
            if not new:
                break
            for node, answer in zip(new, self._looked(new, needed), strict=True):
                name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                if isinstance(answer, str) and turn < TURNS - 1:
                    continue
                asked.add(node["NodeID"])
                if isinstance(answer, str):
                    problems.append(Problem(answer, name, "look at it with 'ray status'"))
                else:
                    problems += _different(name, here, *answer)
            time.sleep(1.0 if len(asked) < len(self.nodes) else 0)
        return problems

    def _looked(self, nodes: list[dict[str, Any]], needed: list[tuple[str, str]]) -> list[Any]:
        """What each node has seen: versions and what it does not see, or why it gave no answer."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self.ray.remote(num_cpus=0, max_retries=0)(_looker())
        sent = [
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(needed, PACKAGES)
            for node in nodes
        ]
        _, late = self.ray.wait(sent, num_returns=len(sent), timeout=PATIENCE)
        found: list[Any] = []
        for answer in sent:
            if answer in late:
                found.append(f"no answer within {PATIENCE:g} s")
                continue
            try:
                found.append(self.ray.get(answer))
            except self.ray.exceptions.RayError as error:
                found.append(f"it cannot work: {type(error).__name__}")
        return found

    def actors(self, job: Job, wanted: Demand, most: int) -> Actors:
        return Actors(self.ray, job, wanted, most)

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


def _different(
    name: str, here: dict[str, str], versions: dict[str, str], missing: list[tuple[str, str]]
) -> list[Problem]:
    """The problems of a node with other versions, or that does not see some files."""
    problems = []
    for package, version in here.items():
        if versions.get(package) != version:
            there = versions.get(package) or "not installed"
            what = f"{package} {there}, but {version} where the run is started"
            problems.append(Problem(what, name, "install the same versions on all nodes"))
    for field, path in missing:
        todo = "put it on a disk that all nodes share"
        problems.append(Problem(f"{field} is not to be seen from there: {path}", name, todo))
    return problems


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
