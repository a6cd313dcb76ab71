"""Gathers verdicts and labels while the findings are made, and gives the tables that rest on them."""

from __future__ import annotations

import polars as pl

from unharm.analysis.label_tables import ScoredLabels, corrected_tables
from unharm.analysis.measures import MEASURES
from unharm.analysis.scorer_error_tables import scorer_errors_table
from unharm.analysis.tables import scorer_columns
from unharm.analysis.worst_case import worst_case_table
from unharm.core.arms import without_doses
from unharm.core.records import Subject
from unharm.runs.keys import Shard
from unharm.runs.label_draws import settled_labels
from unharm.runs.plan import Plan
from unharm.store.store import Store
from unharm.study.spec import Study


class LabelFindings:
    """The verdicts of all scorers that measure what their benchmark does, beside the labels of people."""

    def __init__(self, study: Study, plan: Plan, store: Store, shards: list[Shard]):
        self._study, self._plan = study, plan
        self._labels = {
            name: settled_labels(plan, store, name, plan.measure(name), shards) for name in plan.prompts
        }
        self._main = ScoredLabels()
        self._others: dict[str, ScoredLabels] = {}

    def add(
        self, subject: Subject, benchmark: str, scorer: str, prompts: pl.DataFrame, scores: pl.DataFrame
    ) -> None:
        """Count the scores of one subject, with completion_id, prompt_id, value, reason."""
        measure = self._plan.measure(benchmark)
        main = scorer == self._study.benchmarks.chosen()[benchmark].scorer
        labels = self._labels[benchmark]
        if measure not in MEASURES or self._plan.scorers[scorer].measures != measure:
            return
        if main:
            scored = self._main
        elif labels is not None:
            scored = self._others.setdefault(scorer, ScoredLabels())
        else:
            return
        scored.scorers[benchmark] = scorer_columns(scorer, self._plan.scorers)
        scored.add(subject, benchmark, measure, prompts, scores, labels)

    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables `worst_case`, `corrected`, `corrected_differences` and `scorer_errors`."""
        study, analysis = self._study, self._study.analysis
        every, arms = {"": self._main, **self._others}, without_doses(study.arms)
        return {
            "worst_case": worst_case_table(self._main.verdicts, self._main.scorers, analysis.confidence),
            **corrected_tables(self._main, arms, study.strategies, analysis, study.seed),
            "scorer_errors": scorer_errors_table(every, analysis.fdr, analysis.confidence),
        }
