"""Training beside other work: what is left of its speed when half the machine is busy.

    python bench/contention.py [--rounds N] [--seconds S]

A process of its own trains 8 stacked adapters (the base of bench/training.py) with two threads on two processors.
In turn: alone; with one of the two processors kept busy by another process; and that again with threads that
spin while they wait, which is what torch does unless told otherwise. Each turn starts a new process, since the
policy is read once. A fair share of half the machine is 50 %.

The last line is JSON: the median over rounds of examples/s beside other work, against the same policy alone:
share_sleeping (what the executor and the command line set) and share_spinning; and the rates.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

PROCESSORS = sorted(os.sched_getaffinity(0))[:2]
POLICIES = {"sleeping": "PASSIVE", "spinning": "ACTIVE"}


def train(seconds: float) -> None:
    """Train for some seconds and print examples per second."""
    os.sched_setaffinity(0, PROCESSORS)
    import torch

    from training import examples_of, llama, ours

    torch.set_num_threads(2)
    turn = ours(llama("small", "cpu", torch.float32), examples_of(None, 120)[:8], "argument")
    turn(1)
    examples, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        examples += turn(1)[0]
    print(examples / (time.perf_counter() - began))


@contextmanager
def busy() -> Iterator[None]:
    """Keep the first processor busy with a process of its own."""
    code = f"import os; os.sched_setaffinity(0, [{PROCESSORS[0]}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def rate(policy: str, beside_work: bool, seconds: float) -> float:
    """Examples per second of a training process with a policy."""
    environment = os.environ | {"OMP_WAIT_POLICY": POLICIES[policy], "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(Path(__file__)), "--train", str(seconds)]
    with busy() if beside_work else nullcontext():
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--train", type=float, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.train:
        train(words.train)
        return
    if len(PROCESSORS) < 2:
        sys.exit("two processors are needed")
    rates: dict[tuple[str, bool], list[float]] = {(p, b): [] for p in POLICIES for b in (False, True)}
    for _ in range(words.rounds):
        for (policy, beside_work), found in rates.items():
            found.append(rate(policy, beside_work, words.seconds))
            where = "beside other work" if beside_work else "alone"
            print(f"{policy}, {where}: {found[-1]:.1f} examples/s", file=sys.stderr, flush=True)
    shares = {
        f"share_{p}": statistics.median(
            beside / alone for beside, alone in zip(rates[p, True], rates[p, False], strict=True)
        )
        for p in POLICIES
    }
    figures = {f"{p}_{'beside' if b else 'alone'}": statistics.median(r) for (p, b), r in rates.items()}
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    print(json.dumps({n: round(x, 3) for n, x in (shares | figures).items()}))


if __name__ == "__main__":
    main()
