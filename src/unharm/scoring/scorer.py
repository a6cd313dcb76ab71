"""What every scorer is: a function from texts to scores, and a row that describes it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from unharm.core.errors import UserError
from unharm.core.hashing import version_of
from unharm.core.records import Score
from unharm.scoring.texts import Text

Scorer = Callable[[Sequence[Text]], list[Score]]
"""Return one score per text, in the order of the texts, with their ids."""


@dataclass(frozen=True)
class ScorerRow:
    """What is known of a scorer before it is loaded.

    Attributes:
        measures: What the number says: toxicity in [0, 1]; negative_regard, flagged and refusal 0 or 1;
            harmfulness 1 to 5; rating 1 to 6. A scorer fits the benchmarks of its measure.
        version: Changes whenever the same text may get another score.
        stand_in: Whether the scorer only replaces a real one. Every table names stand-ins as such.
        description: One line for people.
        judge: The model that judges, for judges and guards.
        rubric: The rubric that a judge follows.
        reads: `text`, the prepared text of a completion, or `answer`, its prompt and whole answer
            (see `texts.Text`). Completions that agree in it are scored once.
    """

    measures: str
    version: str
    stand_in: bool
    description: str
    judge: str = ""
    rubric: str = ""
    reads: Literal["text", "answer"] = "answer"


@dataclass(frozen=True)
class Package:
    """A package that a built-in scorer needs.

    Attributes:
        distribution: The name to install.
        module: The name to import.
        extra: The optional dependencies of unharm that install it; empty where unharm always does.
        label: How the package is named in versions of scores.
    """

    distribution: str
    module: str
    extra: str = ""
    label: str = ""

    @property
    def version(self) -> str:
        return f"{self.label or self.distribution} {version_of(self.distribution)}"

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


@dataclass(frozen=True)
class BuiltIn:
    """A scorer without settings: its name in a study, its row, its function, the package it needs."""

    name: str
    row: ScorerRow
    score: Scorer
    package: Package | None = None

    @property
    def versioned_row(self) -> ScorerRow:
        """The row, with the version of the package as part of the version."""
        if self.package is None:
            return self.row
        return replace(self.row, version=f"{self.row.version}+{self.package.version}")

    def check(self, where: str = "") -> None:
        """Raise `UserError` where the package is not installed."""
        if self.package is not None and not self.package.installed:
            extra = f"'unharm[{self.package.extra}]'" if self.package.extra else self.package.distribution
            message = f"{self.name} needs the package {self.package.distribution}, which is not installed"
            raise UserError(message, where, f"pip install {extra}")


def unscored(text: Text, reason: str, raw: str = "") -> Score:
    """Return the score of a text that the scorer has no number for."""
    return Score(text.id, None, "", "unscored", reason, raw)
