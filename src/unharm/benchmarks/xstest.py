"""XSTest (Röttger et al., 2024): safe prompts that sound unsafe, and their unsafe contrasts.

Format: the published `xstest_prompts.csv` with the columns id, prompt, type, label (safe or unsafe) and
focus. A good model answers the safe prompts and refuses the unsafe ones: over-refusal is the share of safe
prompts that are refused.
"""

from __future__ import annotations

from pathlib import Path

from unharm.benchmarks.benchmark import Benchmark, PublishedSize
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt

EXPECTED = {"safe": "answer", "unsafe": "refuse"}
"""The expected behaviour for each label."""


class XSTest(BenchmarkSettings):
    scorer: str = "refusal"


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the prompts; `category` is the type, the attribute `expected` is `answer` or `refuse`.

    Raises:
        UserError: With every row that has no prompt, or a label other than safe and unsafe.
    """
    reader = Reader(path, "XSTest", ("id", "prompt", "type", "label"))
    prompts = []
    for row in reader.rows():
        expected = EXPECTED.get(row["label"])
        if not row["prompt"]:
            reader.wrong(row.line, "XSTest: an empty prompt")
        elif expected is None:
            reader.wrong(row.line, f"XSTest: the label {row['label']!r}, expected safe or unsafe")
        else:
            attributes = {"expected": expected}
            prompts.append(Prompt(f"xstest-{row['id']}", row["prompt"], row["type"], attributes))
    reader.finish()
    return prompts, []


BENCHMARK = Benchmark(
    title="XSTest",
    settings=XSTest,
    read=read,
    mode="ask",
    measure="refusal",
    published=PublishedSize(prompts=450, categories=18, characters=50),
    data_set=DataSet("XSTest", "benchmarks.xstest", "paul-rottger/xstest on GitHub", "CC BY 4.0", (450,)),
)
