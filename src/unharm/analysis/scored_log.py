"""The scores of a log that another tool wrote: one model on one task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

LOG_SCHEMA = {
    "id": pl.String,
    "category": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "content": pl.String,
}
"""The columns of `ScoredLog.scores`: one row per prompt and metric. `value` is null where the log has no
score. `content` is a hash of what was asked."""

EPOCHS, REDUCER = "epochs", "reducer of epochs"
"""Settings of a log: how often each prompt was sampled, and how its scores became one."""
MAXIMUM = "max"
"""A reducer whose result grows with the number of epochs."""


@dataclass(frozen=True)
class ScoredLog:
    """One log.

    Attributes:
        path: The file.
        task: The name of the task; empty if the log does not say.
        version: The version of the task; empty if the log does not say.
        model: The name of the model; the name of the file if the log does not say.
        scores: One row per prompt and metric, see `LOG_SCHEMA`.
        ranges: The least and the largest value of a metric, where the log says.
        settings: What else should be equal in two logs, such as the number of examples in the prompt.
        arm, strategy, profile: The subject of a log that unharm exported, else empty.
        seed: The training seed of such a subject, if it has one.
        notes: What was left out, and why.
    """

    path: Path
    task: str
    version: str
    model: str
    scores: pl.DataFrame
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    arm: str = ""
    strategy: str = ""
    profile: str = ""
    seed: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """The number of different prompts."""
        return self.scores["id"].n_unique()

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics, in the order of the log."""
        return self.scores["metric"].unique(maintain_order=True).to_list()
