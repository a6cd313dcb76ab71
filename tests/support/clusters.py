"""A Ray cluster of several nodes on this machine, in a process of its own.

    python tests/clusters.py NODES CPUS

prints its address, then does what it is told line by line: `add` a node, `remove` the last one (its processes are
killed, as when a machine is lost); it ends the cluster when its input does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Nodes:
    """The cluster, seen from the process that started it."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process
        self.address = self._heard()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("> "):
                return line.removeprefix("> ").strip()
        raise RuntimeError("the cluster did not start")

    def tell(self, word: str) -> None:
        """`add` or `remove`."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        self._heard()


@contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[Nodes]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(nodes), str(cpus)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield Nodes(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    from ray.cluster_utils import Cluster

    nodes, cpus = int(sys.argv[1]), int(sys.argv[2])
    # the head has no processors: losing it would be losing the cluster
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    others = [made.add_node(num_cpus=cpus) for _ in range(nodes)]
    print(f"> {made.address}", flush=True)
    for line in sys.stdin:
        if line.strip() == "add":
            others.append(made.add_node(num_cpus=cpus))
        elif others:
            made.remove_node(others.pop(), allow_graceful=False)
        print("> done", flush=True)
    made.shutdown()


if __name__ == "__main__":
    main()
