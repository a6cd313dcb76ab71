"""The spec: what is right is read, what is wrong is told all together with file and line."""

from __future__ import annotations

import re

import pytest

from support.dry_run_helpers import PAPER
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.core.values import HIGHER_ORDER, VALUES
from unharm.runs.plan import Plan
from unharm.study.check import load_study, parse_study
from unharm.study.spec import Study


def test_a_run_needs_its_data() -> None:
    with pytest.raises(UserError, match="the data folder '/nowhere' does not exist"):
        load_study(PAPER, ["data=/nowhere"])


GOOD = """\
name: mine
base: toy
data: toy
arms: [vanilla, icl]
benchmarks:
  rtp: {file: rtp.csv, limit: 5}
"""


def parsed(text: str, *overrides: str) -> Study:
    spec = SpecText(text, "mine.yaml")
    for assignment in overrides:
        spec.override(assignment)
    return parse_study(spec)


def problems(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        parsed(text, *overrides)
    return str(caught.value)


def test_quickstart_is_a_whole_study() -> None:
    study = load_study("quickstart")
    plan = Plan(study)
    assert [p.name for p in plan.profiles] == [*VALUES, *HIGHER_ORDER]
    assert study.arms == ["vanilla", "icl", "vim", "benign:grammar"]
    assert len(plan.subjects) == 1 + 14 + 14 + 1
    assert len(plan.adapters) == 14 * 2 + 1
    assert set(study.benchmarks.chosen()) == {"rtp", "hbr", "hexphi", "beavertails", "questionnaire"}


def test_published_defaults() -> None:
    study = parsed(GOOD)
    assert (study.training.lora.r, study.training.lora.alpha, study.training.lora.dropout) == (8, 32, 0.1)
    assert study.training.vim.lr == 2e-5
    assert (study.training.vim.epochs, study.training.vim.batch) == (5, 8)
    assert (study.training.benign.batch, study.training.benign.accumulate) == (1, 16)
    rtp = study.benchmarks.chosen().get("rtp")
    assert rtp is not None
    assert (rtp.samples, rtp.max_tokens, rtp.temperature, rtp.top_p) == (10, 64, 0.1, 0.75)


def test_all_mistakes_are_told_together_with_their_lines() -> None:
    told = problems(
        "name: mine\nbase: toy\ndata: toy\narms: [vanila, icl]\nprofils: [extreme]\nseed: -3\n"
        "benchmarks:\n  rtp: {file: rtp.csv, sampels: 3}\n  hexphi: {file: nowhere}\n"
    )
    assert "mine.yaml:4: arms.0: unknown name 'vanila'; did you mean 'vanilla'?" in told
    assert "mine.yaml:5: profils: unknown field 'profils'" in told
    assert "did you mean 'profiles'?" in told
    assert "mine.yaml:6: seed:" in told
    assert "mine.yaml:8: benchmarks.rtp.sampels: unknown field 'sampels'" in told
    assert "did you mean 'samples'?" in told
    assert "mine.yaml:9: benchmarks.hexphi.file: no such file" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("arms=[vanilla, vanilla]", "given twice: vanilla"),
        ("arms=[vim]", "'corpus' is missing"),
        ("benchmarks={}", "no benchmark is chosen"),
        ("benchmarks={rpt: {file: rtp.csv}}", "did you mean 'rtp'?"),
        ("benchmarks.rtp.scorer=offline-toxic", "did you mean 'offline-toxicity'?"),
        ("benchmarks.rtp.scorer=offline-regard", "'offline-regard' does not score rtp"),
        ("benchmarks.rtp.top_p=1.5", "benchmarks.rtp.top_p"),
        ("benchmarks.rtp.file=absent.csv", "no such file"),
        ("profiles=[{extreme: [bravery]}]", "unknown name 'bravery'"),
        ("profiles=[mine.csv]", "no such file: mine.csv"),
        ("profiles=[mine]", "is not a source of profiles"),
        ("strategies=[value]", "needs the values to set aside"),
        ("prompting.pack=absent.yaml", "no such prompt pack"),
        ("name=../x", "name"),
        ("corpus={arguments: arguments.tsv, split: [0.5, 0.2, 0.2]}", "split must sum to 1"),
        ("training.lora.r=0", "training.lora.r"),
        ("data=/nowhere/at/all", "the data folder '/nowhere/at/all' does not exist"),
    ],
)
def test_one_mistake(change: str, told: str) -> None:
    message = problems(GOOD, change)
    assert told in message
    assert re.search(rf"mine\.yaml|--set {re.escape(change)}", message)


def test_set_overrides_any_field_and_keeps_the_rest() -> None:
    study = parsed(GOOD, "benchmarks.rtp.limit=2", "training.vim.lr=1e-4")
    rtp = study.benchmarks.chosen()["rtp"]
    assert (rtp.limit, rtp.file) == (2, "rtp.csv")
    assert study.training.vim.lr == 1e-4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [", "not valid YAML"),
        ("- a\n- b\n", "a study is a mapping of fields"),
        (GOOD + "seed: 1\nseed: 2\n", "the field 'seed' is given twice"),
        ("", "the field 'name' is missing"),
    ],
)
def test_text_that_is_no_study(text: str, told: str) -> None:
    assert told in problems(text)


def test_set_needs_key_and_value() -> None:
    assert "expected key=value" in problems(GOOD, "seed")
