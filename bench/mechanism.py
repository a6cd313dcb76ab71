"""Does the mechanism table name the direction that causes harm, and steering what a forward hook does?

    python bench/mechanism.py [--quick]

Measured:

- planted: tiny models whose harm is caused by one direction (the output row of the harmful token). Named and
  no other, of 20 seeds (4 with --quick).
- null: the same models with a row that no direction touches. Any direction named, of 20 seeds (4).
- equality: 200 prompts × 8 rows (20 × 4) of steered, adapted and plain models in mixed batches of the hf
  engine, greedy; texts equal to those of forward hooks on plain transformers.

The last line is JSON: planted_right, planted_seeds, null_named, null_seeds, equal_texts, compared_texts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.planted import named_directions
from support.steering import greedy_with_hook, steering_folders
from unharm.core.errors import UserError
from unharm.engines.hf import HfEngine
from unharm.engines.requests import Request, Sampling, Task, identify
from unharm.study.demo.base import Shape, train_base
from unharm.study.demo.world import documents
from unharm.training.steering.settings import Mechanism


def planted(seeds: int) -> tuple[int, int]:
    """Return in how many planted models the cause and no other is named, and in how many null ones any."""
    level = Mechanism().level
    right = false = 0
    for seed in range(seeds):
        cause, named = named_directions(seed, False, level)
        right += named == [cause]
        false += bool(named_directions(seed, True, level)[1])
        print(
            f"seed {seed}: cause {cause}, named {named}; wrong in null models so far: {false}", flush=True
        )
    return right, false


def equality(prompts: int, rows: int) -> tuple[int, int]:
    """Return how many greedy texts in mixed batches equal those of plain hooks, and how many there are."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sampling = Sampling(10, 0.0, 1.0)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary) / "base"
        shape = Shape(
            hidden=32, layers=2, heads=2, vocabulary=600, context=512, window=64, batch=8, steps=60
        )
        train_base(documents(3)[:600], base, shape, seed=1)
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base).requires_grad_(False).eval()
        folders: dict[str, Path | None] = {"vanilla": None}
        folders |= steering_folders(model, Path(temporary), rows - 1)
        texts = [" ".join(text.split()[: 3 + n % 9]) for n, text in enumerate(documents(5)[:prompts])]
        tasks = [Task(name, _requests(name, texts), sampling, folder) for name, folder in folders.items()]
        made = HfEngine(model, tokenizer, "base", 128).complete(tasks, _refused)
        by_row = {(task.name, int(c.prompt_id)): c.text for task, c in made}
        equal = sum(
            by_row[name, place] == greedy_with_hook(model, tokenizer, text, folder, sampling.max_tokens)
            for name, folder in folders.items()
            for place, text in enumerate(texts)
        )
    return equal, len(by_row)


def _requests(name: str, texts: list[str]) -> tuple[Request, ...]:
    made = []
    for place, text in enumerate(texts):
        identity, seed = identify(name, "", str(place), 0, 1)
        made.append(Request(identity, str(place), 0, text, seed))
    return tuple(made)


def _refused(task: Task, error: UserError) -> None:
    raise error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 seeds, 20 prompts × 4 rows")
    quick: bool = parser.parse_args().quick
    seeds = 4 if quick else 20
    right, false = planted(seeds)
    print(f"planted: the cause and no other named in {right} of {seeds}")
    print(f"null: any direction named in {false} of {seeds}")
    equal, compared = equality(*((20, 4) if quick else (200, 8)))
    print(f"equality: {equal} of {compared} texts")
    figures: dict[str, Any] = {"planted_right": right, "planted_seeds": seeds, "null_named": false}
    figures |= {"null_seeds": seeds, "equal_texts": equal, "compared_texts": compared}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
