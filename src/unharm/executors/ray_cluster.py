"""Connection to a running Ray cluster, checks of its nodes, and its workers.

Workers are actors. Each opens the run once, loads base, engines and classifiers once, and runs one chunk
after another. Results go through the store; Ray transports only names and counts. unharm never starts or
stops a cluster.
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
"""Packages that can change results. Their versions must be the same on every node."""
ANSWER_SECONDS = 60.0
"""Seconds that a node may take to answer."""
ATTEMPTS = 5
"""How often a node without an answer is asked, a second apart: it may be starting or leaving."""


class Cluster:
    """The connection to a cluster.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """

    def __init__(self, spec: ExecutorSpec):
        if find_spec("ray") is None:
            raise UserError("Ray is not installed", "executor", "pip install 'unharm[ray]'")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self.ray: Any = ray
        self.opened_here = not ray.is_initialized()
        if self.opened_here:
            self._connect(_address(spec))

    def _connect(self, address: str) -> None:
        """Connect to the cluster at `address`."""
        try:
            self.ray.init(
                address=address, namespace="unharm", log_to_driver=False, logging_level=logging.ERROR
            )
            # Ray has no public option for this; its messages would mix with our JSON on standard output
            self.ray._private.worker._worker_logs_enabled = False
        except (ConnectionError, TimeoutError, ValueError):
            raise _no_cluster(address) from None
        except RuntimeError as error:
            if "ersion mismatch" not in str(error):
                raise
            reason = " ".join(str(error).split())[:400]
            message = f"the cluster runs another version of Ray or Python: {reason}"
            raise UserError(message, "executor", "install the same versions on all nodes") from None

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The living nodes, as Ray describes them."""
        return [node for node in self.ray.nodes() if node["Alive"]]

    @property
    def has_accelerators(self) -> bool:
        """Whether a node has an accelerator."""
        return any(node["Resources"].get("GPU", 0) > 0 for node in self.nodes)

    def room(self, wanted: Demand) -> int:
        """Return how many workers fit into the cluster now, at least one."""
        return max(1, sum(_room(node["Resources"], wanted) for node in self.nodes))

    def check(self, demands: list[Demand], needed: list[tuple[str, str]]) -> None:
        """Check that every worker fits on a node and that all nodes have the same packages and files.

        Args:
            demands: The resources of one worker of each stage.
            needed: Field and path of every file that a node must see.

        Raises:
            UserError: With every problem.
        """
        problems: dict[Problem, None] = {}
        for wanted in demands:
            problems |= dict.fromkeys(_missing_resources(self.nodes, wanted))
        problems |= dict.fromkeys(self._differences(needed))
        raise_all(list(problems))

    def _differences(self, needed: list[tuple[str, str]]) -> list[Problem]:
        """Compare versions and visible files of all nodes with this machine.

        A node that leaves during the check is ignored. A new node without an answer is asked again.
        """
        expected = _versions()
        problems: list[Problem] = []
        asked: set[str] = set()
        for attempt in range(ATTEMPTS):
            new = [node for node in self.nodes if node["NodeID"] not in asked]
            if not new:
                break
            for node, answer in zip(new, self._inspect(new, needed), strict=True):
                name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                if isinstance(answer, str) and attempt < ATTEMPTS - 1:
                    continue
                asked.add(node["NodeID"])
                if isinstance(answer, str):
                    problems.append(Problem(answer, name, "see 'ray status'"))
                else:
                    problems += _node_problems(name, expected, *answer)
            time.sleep(1.0 if len(asked) < len(self.nodes) else 0)
        return problems

    def _inspect(self, nodes: list[dict[str, Any]], needed: list[tuple[str, str]]) -> list[Any]:
        """Return for each node its versions and missing files, or why it gave no answer."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        inspect = self.ray.remote(num_cpus=0, max_retries=0)(_inspection())
        sent = [
            inspect.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(needed, PACKAGES)
            for node in nodes
        ]
        _, late = self.ray.wait(sent, num_returns=len(sent), timeout=ANSWER_SECONDS)
        answers: list[Any] = []
        for answer in sent:
            if answer in late:
                answers.append(f"no answer within {ANSWER_SECONDS:g} s")
                continue
            try:
                answers.append(self.ray.get(answer))
            except self.ray.exceptions.RayError as error:
                answers.append(f"the check failed: {type(error).__name__}")
        return answers

    def actors(self, job: Job, wanted: Demand, max_workers: int) -> Actors:
        """Start a pool of at most `max_workers` actors."""
        return Actors(self.ray, job, wanted, max_workers)

    def disconnect(self) -> None:
        """Disconnect, unless the connection was open before. The cluster keeps running."""
        if self.opened_here:
            self.ray.shutdown()


def _address(spec: ExecutorSpec) -> str:
    """Return the address of the cluster after a test connection.

    Without the test, Ray would wait a minute and then end this process.

    Raises:
        UserError: Nothing answers at the address.
    """
    from ray._private.services import canonicalize_bootstrap_address

    wanted = spec.address or os.environ.get("RAY_ADDRESS") or "auto"
    if wanted.startswith("ray://"):
        todo = "start unharm on a node of the cluster, and give the address as host:port or not at all"
        raise UserError("the address of a Ray client", "executor.address", todo)
    try:
        address = wanted if wanted != "auto" else canonicalize_bootstrap_address("auto")
        host, _, port = str(address or "").rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, ConnectionError):
        raise _no_cluster(wanted) from None
    return str(address)


def _no_cluster(address: str) -> UserError:
    """Return the error for a missing cluster."""
    message = "no Ray cluster here" if address == "auto" else f"no Ray cluster at {address}"
    todo = "start one with 'ray start --head', or give its address (executor.address, RAY_ADDRESS)"
    return UserError(message, "executor.address" if address != "auto" else "executor", todo)


def _room(resources: dict[str, float], wanted: Demand) -> int:
    """Return how many workers fit into some resources."""
    fits = [resources.get("CPU", 0) // wanted.cpus]
    if wanted.gpus:
        fits.append(resources.get("GPU", 0) // wanted.gpus)
    if wanted.memory:
        fits.append(resources.get("memory", 0) // (wanted.memory * 2**30))
    return int(min(fits))


def _missing_resources(nodes: list[dict[str, Any]], wanted: Demand) -> list[Problem]:
    """Report the resources that no node has enough of for one worker."""
    if any(_room(node["Resources"], wanted) for node in nodes):
        return []
    asked = {"cpus": ("CPU", wanted.cpus, 1), "gpus": ("GPU", wanted.gpus, 1)}
    asked["memory"] = ("memory", wanted.memory or 0, 2**30)
    problems = []
    for field, (name, amount, unit) in asked.items():
        most = max((node["Resources"].get(name, 0) / unit for node in nodes), default=0)
        if amount > most:
            message = f"one task asks for {amount:g} {field}, the largest node has {most:g}"
            problems.append(Problem(message, f"executor.{field}", "ask for less, or start a larger node"))
    return problems or [Problem("no node has all resources of one task", "executor", "ask for less")]


def _node_problems(
    name: str, expected: dict[str, str], versions: dict[str, str], missing: list[tuple[str, str]]
) -> list[Problem]:
    """Report different package versions and missing files of a node."""
    problems = []
    for package, version in expected.items():
        if versions.get(package) != version:
            installed = versions.get(package) or "not installed"
            message = f"{package} {installed}, but {version} on the machine that starts the run"
            problems.append(Problem(message, name, "install the same versions on all nodes"))
    for field, path in missing:
        todo = "put it on a disk that all nodes share"
        problems.append(Problem(f"{field} is missing on this node: {path}", name, todo))
    return problems


def _versions() -> dict[str, str]:
    """Return the versions of Python and `PACKAGES` on this machine."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def _inspection() -> Callable[..., Any]:
    """Return a function that inspects a node.

    It is pickled by value, because unharm may not be installed on the node.
    """

    def inspect(
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

    return inspect
