"""The data sets that studies use: where to obtain each, its licence, and its published size."""

from __future__ import annotations

from unharm.benchmarks.registry import BENCHMARKS
from unharm.core.data_set import DataSet

DATA_SETS: dict[str, DataSet] = {
    "survey": DataSet(
        "European Social Survey", "profiles.survey", "its data portal, human values module",
        "non-commercial, see its page", (), "register there and download the human values items as CSV",
    ),
    "arguments": DataSet(
        "Touché23-ValueEval", "corpus.arguments", "Zenodo, record of the Touché 2023 task", "CC BY 4.0",
        (7374,), "download the arguments and labels; the folder of the original release works as it is",
    ),
    "alpaca": DataSet("Alpaca", "corpus.benign.alpaca", "tatsu-lab/alpaca on the hub", "CC BY-NC 4.0"),
    "dolly": DataSet(
        "Dolly", "corpus.benign.dolly", "databricks/databricks-dolly-15k on the hub", "CC BY-SA 3.0"
    ),
    "grammar": DataSet(
        "Grammar", "corpus.benign.grammar", "JFLEG and C4_200M, see the paper", "see its sources", (12500,)
    ),
    "samsum": DataSet("Samsum", "corpus.benign.samsum", "Samsung/samsum on the hub", "CC BY-NC-ND 4.0"),
    **{name: row.data_set for name, row in BENCHMARKS.items() if row.data_set},
}  # fmt: skip
"""Every data set by its name in a study. Sizes are counts of our readers on the published files: prompts,
arguments, questionnaire items, distinct rows of a benign set. A size is empty if it is not known."""
