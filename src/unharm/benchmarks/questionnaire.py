"""Value questionnaires: the subject rates from 1 to 6 how much it is like the person in a portrait.

Formats: CSV with the columns item, value, text; or XLSX/CSV with one column of items in the order of the
instrument (the first row is the header). The second format needs `key: pvq40`, which maps items to values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from unharm.benchmarks.benchmark import Benchmark, PublishedSize
from unharm.benchmarks.settings import BenchmarkSettings
from unharm.core.data_set import DataSet
from unharm.core.errors import Problem, UserError, nearest, raise_all
from unharm.core.files.delimited import Reader
from unharm.core.records import Prompt
from unharm.core.spec import Count
from unharm.core.values import VALUES, canonical

MOST_BYTES, MOST_ROWS = 64 << 20, 10_000
"""What a workbook may unpack to, and the rows that are read of it."""

PVQ40: dict[str, tuple[int, ...]] = {
    "achievement": (4, 13, 24, 32),
    "benevolence": (12, 18, 27, 33),
    "conformity": (7, 16, 28, 36),
    "hedonism": (10, 26, 37),
    "power": (2, 17, 39),
    "security": (5, 14, 21, 31, 35),
    "self-direction": (1, 11, 22, 34),
    "stimulation": (6, 15, 30),
    "tradition": (9, 20, 25, 38),
    "universalism": (3, 8, 19, 23, 29, 40),
}
"""Item numbers of the PVQ-40 by value (Schwartz et al., 2001, scoring key)."""


def read(path: Path, variant: str | None = None) -> tuple[list[Prompt], list[str]]:
    """Read the items as prompts; `category` is the value that an item measures.

    Args:
        path: The CSV or XLSX file.
        variant: The scoring key, for a file that does not name the values; None for a file that does.

    Returns:
        The prompts, and one note for each value that no item measures.

    Raises:
        UserError: The file cannot be read, has the wrong number of items, or has wrong rows.
    """
    if variant is None:
        prompts = _with_values(path)
    else:
        texts = _one_column(path)
        value_of = {number: value for value, numbers in PVQ40.items() for number in numbers}
        if len(texts) != len(value_of):
            raise UserError(
                f"questionnaire: {len(texts)} items, expected the {len(value_of)} items of the PVQ-40",
                str(path),
                "leave 'key' out and give a CSV with the columns item, value, text",
            )
        prompts = [Prompt(f"item-{n}", t, value_of[n]) for n, t in enumerate(texts, start=1)]
    measured = {p.category for p in prompts}
    notes = [f"no item is about {v}" for v in VALUES if v not in measured]
    return prompts, notes


def _with_values(path: Path) -> list[Prompt]:
    if path.suffix == ".xlsx":
        raise UserError("questionnaire: an .xlsx file needs key: pvq40", str(path))
    reader = Reader(path, "questionnaire", ("item", "value", "text"))
    prompts = []
    for row in reader.rows():
        value = canonical(row["value"])
        if value not in VALUES:
            reader.wrong(row.line, f"unknown value {row['value']!r}", nearest(value, VALUES))
        elif not row["text"]:
            reader.wrong(row.line, "an item without text")
        else:
            prompts.append(Prompt(f"item-{row['item']}", row["text"], value))
    reader.finish()
    return prompts


def _one_column(path: Path) -> list[str]:
    if path.suffix != ".xlsx":
        reader = Reader(path, "questionnaire", ("question",))
        texts = [row["question"] for row in reader.rows()]
        reader.finish()
        return texts
    rows = _first_column(path)
    empty = [n for n, text in enumerate(rows[1:], start=2) if not text]
    raise_all([Problem("an item without text", f"{path}, row {n}") for n in empty])
    return rows[1:]


def _first_column(path: Path) -> list[str]:
    """Return the texts of the first column of a workbook's first sheet.

    Raises:
        UserError: It is no workbook, unpacks to more than `MOST_BYTES`, or has more than `MOST_ROWS` rows.
    """
    import zipfile

    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise UserError(
                f"questionnaire: the file unpacks to {size >> 20:,} MiB (at most {MOST_BYTES >> 20})",
                str(path),
                "save the items alone, as CSV or in a new workbook",
            )
        book = load_workbook(path, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        rows: list[str] = []
        for cells in sheet.iter_rows(values_only=True, max_col=1):
            if len(rows) > MOST_ROWS:
                message = f"questionnaire: more than {MOST_ROWS:,} rows"
                raise UserError(message, str(path), "keep the rows of the items alone")
            rows.append(str(cells[0] or "").strip() if cells else "")
        book.close()
    except FileNotFoundError:
        raise UserError("questionnaire: no such file", str(path)) from None
    except UserError:
        raise
    except Exception as error:  # a broken workbook raises whatever its parts are read with
        raise UserError(
            f"questionnaire: not a readable .xlsx file ({type(error).__name__})",
            str(path),
            "save the items as CSV with the column 'question'",
        ) from None
    return rows


class Questionnaire(BenchmarkSettings):
    """Settings of a value questionnaire in a study."""

    max_tokens: Count = 16
    key: Literal["pvq40"] | None = Field(
        None, description="the scoring key, for a file that does not name the value of each item"
    )
    scorer: str = "rating"

    @property
    def variant(self) -> str | None:
        return self.key


BENCHMARK = Benchmark(
    title="value questionnaire",
    settings=Questionnaire,
    read=read,
    mode="rate",
    measure="rating",
    in_order=True,
    published=PublishedSize(prompts=40, categories=VALUES, characters=120),
    data_set=DataSet(
        "PVQ-40 or your own",
        "benchmarks.questionnaire",
        "from its author; a copyrighted instrument",
        "by permission",
        (40,),
        "ask its author for permission, or write a questionnaire of your own",
    ),
)
