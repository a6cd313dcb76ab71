"""The plain data of a study that runs in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def study_data(base: Path, output: Path) -> dict[str, Any]:
    """The plain data of a study that runs in seconds; tests change what they are about."""
    return {
        "name": "tiny",
        "base": str(base),
        "data": "toy",
        "output": str(output),
        "profiles": [{"extreme": ["power", "benevolence", "security"]}],
        "arms": ["vanilla", "icl", "vim", "benign:grammar"],
        "corpus": {
            "arguments": "arguments.tsv",
            "limit": 40,
            "benign": {"grammar": {"file": "grammar.csv", "limit": 20}},
        },
        "training": {
            "vim": {"lr": 5e-3, "epochs": 1, "batch": 16},
            "benign": {"lr": 5e-3, "batch": 4, "accumulate": 2},
        },
        "prompting": {"pack": "toy"},
        "engine": {"batch": 64, "shard": 16},
        "benchmarks": {
            "rtp": {"file": "rtp.csv", "limit": 4, "samples": 3, "max_tokens": 5},
            "hbr": {"file": "hbr.jsonl", "limit": 8, "max_tokens": 5},
            "hexphi": {"file": "hexphi", "limit": 10, "max_tokens": 5},
            "beavertails": {"file": "beavertails.csv", "limit": 14, "max_tokens": 5},
            "questionnaire": {"file": "questionnaire.csv", "max_tokens": 3},
        },
    }
