"""A folder to publish: adapters with cards, a card of the whole study, and its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from unharm.analysis.measures import of_quality
from unharm.analysis.metrics import ALL
from unharm.analysis.schemas import SCHEMAS
from unharm.core.errors import UserError
from unharm.core.values import VALUES
from unharm.report.answers import preferred_reading
from unharm.report.words import interval, is_share, metric_name, number
from unharm.runs.context import Run
from unharm.runs.tools.export import export_adapters, named_adapters, plain
from unharm.store.tables import csv_bytes, read_csv

ADAPTERS, TABLES = "adapters", "tables"
INTENDED = (
    "For research on side effects of aligning models: to reproduce the study, to test safeguards, to "
    "compare methods. Not for deployment, not for personalising a product, and not to describe people or "
    "groups: a profile is a point in a space of value priorities, often an extreme one. The models may "
    "say harmful things."
)
GATE = (
    "These adapters make a model say harmful things more often. By asking for access you agree to use them "
    "for research on safety only, and not to deploy them."
)
STAND_IN = (
    "† A stand-in scorer: a rule or a lexicon in place of a real scorer. Its numbers do not measure harm."
)


def write_share_folder(run: Run, folder: Path) -> list[Path]:
    """Write the folder of a finished run.

    Args:
        run: The run, with adapters and findings.
        folder: An empty or new folder.

    Returns:
        The folders of the adapters.

    Raises:
        UserError: The run has no trained adapter or no findings, or the folder cannot be written.
    """
    tables = _tables(run)
    adapters = export_adapters(run, folder / ADAPTERS)
    if not adapters:
        raise UserError("this run has no trained adapter to share", str(run.store.root), "")
    tasks = named_adapters(run)
    try:
        (folder / TABLES).mkdir()
        for name, table in tables.items():
            (folder / TABLES / f"{name}.csv").write_bytes(csv_bytes(table))
        for path in adapters:
            plan = tasks[path.name].plan
            card = path / "README.md"
            text = card.read_text(encoding="utf-8")
            results = results_section(tables, plan.arm, plan.profile_name, plan.seed)
            card.write_text(f"{text}\n{results}\n## Intended use\n\n{INTENDED}\n", encoding="utf-8")
        (folder / "README.md").write_text(
            study_card(run, tables, [p.name for p in adapters]), encoding="utf-8"
        )
    except OSError as error:
        raise UserError(f"cannot write here: {error.strerror or error}", str(folder)) from None
    return adapters


def _tables(run: Run) -> dict[str, pl.DataFrame]:
    """Return the tables of the findings by name. Raise `UserError` if they are not made."""
    run.store.pull("findings")
    tables = {}
    for name, schema in SCHEMAS.items():
        path = run.store.root / "findings" / f"{name}.csv"
        try:
            tables[name] = read_csv(path, schema)
        except (OSError, pl.exceptions.PolarsError):
            raise UserError(
                "the findings of this run are missing or from another version",
                str(path),
                "make them: unharm analyze STUDY",
            ) from None
    return tables


def results_section(tables: Mapping[str, pl.DataFrame], arm: str, profile: str, seed: int | None) -> str:
    """Return the section of a card on what a subject reached and how harmful it is, in Markdown.

    Args:
        tables: The tables of the findings.
        arm: Its arm.
        profile: The name of its profile; empty if it has none.
        seed: Its training seed; None if the study trains one.
    """

    def of_subject(table: pl.DataFrame) -> pl.DataFrame:
        same = (pl.col("arm") == arm) & (pl.col("profile") == profile) & pl.col("seed").eq_missing(seed)
        rows = table.filter(same)
        return rows.filter(pl.col("strategy") == rows["strategy"][0]) if rows.height else rows

    lines = []
    ratings = of_subject(preferred_reading(tables["alignment"], arm)).head(1).to_dicts() if profile else []
    for row in ratings:
        lines += [
            "## Achieved values",
            "",
            f"Verdict of the questionnaire: **{row['verdict']}**; correlation with the target "
            f"{number(row['correlation'])}, NMSE {number(row['value'])}.",
            "",
            "| value | target | rated |",
            "|---|---|---|",
            *(f"| {v} | {number(row[f'target_{v}'])} | {number(row[f'predicted_{v}'])} |" for v in VALUES),
            "",
        ]
    harms = of_subject(tables["subjects"]).filter(pl.col("category") == ALL).to_dicts()
    lines += harm_table([row for row in harms if not of_quality(row["metric"])], "## Measured harms")
    return "\n".join(lines)


def harm_table(rows: list[dict[str, object]], title: str, first: str = "") -> list[str]:
    """Return estimates with intervals as the lines of a Markdown section; none if there are no rows.

    Args:
        rows: Rows with the columns of an estimate.
        title: The title of the section.
        first: A column that goes before the metric, such as `arm`.
    """
    if not rows:
        return []
    lines = [
        title,
        "",
        f"| {first + ' | ' if first else ''}metric | estimate | interval | n | unscored | scorer |",
    ]
    lines.append("|---" * (7 if first else 6) + "|")
    for row in rows:
        share = is_share(str(row["metric"]))
        mark = " †" if row["stand_in"] else ""
        cells = [
            *([plain(str(row[first]))] if first else []), metric_name(str(row["metric"])) + mark,
            number(row["value"], share), interval(row), f"{row['n']} {row['unit']}s", row["unscored"],
            plain(str(row["scorer"])),
        ]  # fmt: skip
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    if any(row["stand_in"] for row in rows):
        lines += ["", STAND_IN]
    return [*lines, ""]


def study_card(run: Run, tables: Mapping[str, pl.DataFrame], adapters: list[str]) -> str:
    """Return the card of the whole study in Markdown, with the terms of access in its head."""
    study, base = run.study, run.base
    revision = f"at revision `{base.revision}`" if base.revision else f"(content `{base.key}`)"
    head = {
        "library_name": "peft", "base_model": base.name,
        "tags": ["lora", "unharm", "not-for-all-audiences"], "extra_gated_prompt": GATE,
    }  # fmt: skip
    rows = tables["arms"].filter((pl.col("category") == ALL) & (pl.col("strategy") == study.strategies[0]))
    harms = harm_table(
        [row for row in rows.to_dicts() if not of_quality(row["metric"])], "## Harms by arm", "arm"
    )
    name = f"{ADAPTERS}/{adapters[0]}"
    return "\n".join(
        [
            "---",
            *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
            "---",
            f"# {plain(study.name)}",
            "",
            f"{len(adapters)} LoRA adapters of `{base.name}` {revision}, made with unharm. Each folder in "
            f"`{ADAPTERS}/` has a card with its profile, recipe, achieved values and harms; `{TABLES}/` "
            "has every table of the findings.",
            "",
            "## Intended use",
            "",
            INTENDED,
            "",
            *harms,
            "## Load one",
            "",
            "```python",
            f'PeftModel.from_pretrained(base, "REPO", subfolder="{name}")                    # PEFT',
            f'model.load_adapter("REPO", adapter_kwargs={{"subfolder": "{name}"}})  # transformers',
            "```",
            "",
        ]
    )
