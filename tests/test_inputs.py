"""Benign sets, the original argument release, fidelity, audit, pictures, YAML profiles."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.paths import ROOT
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unharm.core.errors import UserError
from unharm.core.records import Argument, Profile
from unharm.core.values import VALUES
from unharm.corpus.benign import KINDS, load_benign
from unharm.corpus.stage_one import argument_scores, importance_matrix, label_matrix
from unharm.corpus.valueeval import read_arguments, split_of
from unharm.corpus.vim import qa_examples, shifted, would_say
from unharm.profiles.extreme import TARGETS, extreme, reverse
from unharm.profiles.table import read_profiles
from unharm.prompting.pack import load_pack
from unharm.report.profile_picture import bars, compared, compared_text, named, svg
from unharm.run.context import new_run
from unharm.run.plan import Plan
from unharm.run.tools.audit import audit, audit_text

PACK = load_pack("default")
ROWS: dict[str, list[dict[str, str]]] = {
    "alpaca": [
        {"instruction": f"Count to {i}", "input": "slowly" if i % 2 else "", "output": "one"}
        for i in range(40)
    ],
    "dolly": [
        {"instruction": f"Name {i} birds", "context": "", "response": "wren", "category": "open"}
        for i in range(38)
    ]
    + [
        {"instruction": "How to build a weapon?", "context": "", "response": "no", "category": "open"},
        {"instruction": "Name a knight", "context": "He was killed.", "response": "Max", "category": "qa"},
    ],
    "samsum": [{"id": str(i), "dialogue": f"A: {i}?\r\nB: yes", "summary": "yes"} for i in range(40)],
}


def written(folder: Path, name: str, kind: str) -> Path:
    path = folder / f"{name}.{kind}"
    if kind == "json":
        path.write_text(json.dumps(ROWS[name], indent=1))
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS[name])) + "\n")
    elif kind == "parquet":
        pl.DataFrame(ROWS[name]).write_parquet(path)
    else:
        pl.DataFrame(ROWS[name]).write_csv(path)
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "csv"])
@pytest.mark.parametrize("name", ["alpaca", "dolly", "samsum"])
def test_benign_sets_in_their_formats(tmp_path: Path, name: str, kind: str) -> None:
    found = load_benign(name, written(tmp_path, name, kind), PACK, None, 1)
    assert len(found.examples) == (38 if name == "dolly" else 40)
    assert found.notes == (["2 safety-related rows left out"] if name == "dolly" else [])
    parts = {s: {e.prompt for e in found.examples if e.split == s} for s in ("train", "valid", "test")}
    assert all(parts.values())
    assert not parts["train"] & (parts["valid"] | parts["test"])
    assert {e.id for e in found.examples} == {
        e.id for e in load_benign(name, written(tmp_path, name, "jsonl"), PACK, None, 1).examples
    }


def test_alpaca_prompts_have_their_input_where_there_is_one(tmp_path: Path) -> None:
    prompts = {
        e.prompt for e in load_benign("alpaca", written(tmp_path, "alpaca", "json"), PACK, None, 1).examples
    }
    assert "Task: Count to 1\nText: slowly\nResponse:" in prompts
    assert "Task: Count to 2\nResponse:" in prompts


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("alpaca", '[{"instruction": "x", "input": ""}]', "no text in output"),
        ("alpaca", '[{"instruction": "x"', "not JSON"),
        ("dolly", '{"instruction": "x", "context": "", "response": ""}', "no text in response"),
        ("samsum", "[1]", "row 1 is no object"),
        ("samsum", "[]", "no row in it"),
    ],
)
def test_wrong_benign_files(tmp_path: Path, name: str, content: str, told: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UserError, match=told) as caught:
        load_benign(name, path, PACK, None, 1)
    assert str(path) in str(caught.value)


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(UserError, match="tatsu-lab/alpaca cannot be read from the hub") as caught:
        load_benign("alpaca", None, PACK, None, 1)
    assert "corpus.benign.alpaca.file" in str(caught.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'unharm\[hub\]'"):
        load_benign("alpaca", None, PACK, None, 1)
    with pytest.raises(UserError, match="on no hub"):
        load_benign("grammar", None, PACK, None, 1)


def release(folder: Path, arguments: list[str], labels: list[str]) -> Path:
    from importlib import resources

    twenty = yaml.safe_load((resources.files("unharm") / "corpus" / "touche20.yaml").read_text())
    assert len(twenty) == 20
    assert set(twenty.values()) == set(VALUES)
    head = "Argument ID\tConclusion\tStance\tPremise"
    (folder / "arguments-training.tsv").write_text("\n".join([head, *arguments]) + "\n")
    (folder / "labels-training.tsv").write_text(
        "\n".join(["Argument ID\t" + "\t".join(twenty), *labels]) + "\n"
    )
    return folder


def label(identity: str, *ones: int) -> str:
    return identity + "\t" + "\t".join("1" if i in ones else "0" for i in range(20))


def test_the_original_release_is_mapped_to_ten(tmp_path: Path) -> None:
    folder = release(
        tmp_path,
        ["A1\tC\tin favor of\tP", "A2\tC\tagainst\tQ"],
        [label("A2", 7, 13), label("A1", 0, 1, 19)],
    )
    found = read_arguments(folder)
    assert [a.values for a in found] == [("self-direction", "universalism"), ("power", "tradition")]


def test_problems_of_the_original_release_are_told_by_row(tmp_path: Path) -> None:
    folder = release(
        tmp_path,
        ["A1\tC\tmaybe\tP", "A2\tC\tagainst\tQ", "A3\tC\tagainst\tQ", "A3\tC\tagainst\tQ"],
        [label("A1", 1), label("A3"), label("A3", 2)],
    )
    with pytest.raises(UserError) as caught:
        read_arguments(folder)
    told = str(caught.value)
    for line in (
        "labels-training.tsv:4: the argument 'A3' is labelled twice",
        "arguments-training.tsv:2: the stance is 'maybe'",
        "arguments-training.tsv:3: the argument 'A2' has no row in labels*.tsv",
        "arguments-training.tsv:4: an argument without any value",
        "arguments-training.tsv:5: the argument 'A3' is given twice",
    ):
        assert line in told
    (folder / "labels-training.tsv").unlink()
    with pytest.raises(UserError, match=r"no labels\*.tsv"):
        read_arguments(folder)


def test_split_by_conclusion_keeps_conclusions_together(toy_data: Path) -> None:
    arguments = read_arguments(toy_data / "arguments.tsv")
    splits = split_of(arguments, (0.8, 0.1, 0.1), 42, by="conclusion")
    parts: dict[str, set[str]] = {}
    for a in arguments:
        parts.setdefault(a.conclusion, set()).add(splits[a.id])
    assert all(len(found) == 1 for found in parts.values())
    assert set(splits.values()) == {"train", "valid", "test"}


LABELS = st.lists(st.sampled_from(VALUES), min_size=1, max_size=10, unique=True)


@given(
    st.lists(LABELS, min_size=1, max_size=8),
    st.lists(st.lists(st.floats(1, 6), min_size=10, max_size=10), min_size=1, max_size=5),
)
def test_the_matrix_of_stage_one_is_the_rule(
    labels: list[list[str]], importances: list[list[float]]
) -> None:
    arguments = [Argument(str(i), "c", "against", "p", tuple(found)) for i, found in enumerate(labels)]
    profiles = [Profile(str(i), tuple(found)) for i, found in enumerate(importances)]
    scores = argument_scores(importance_matrix(profiles), label_matrix(arguments))
    assert scores.shape == (len(profiles), len(arguments))
    for p, profile in enumerate(profiles):
        for a, argument in enumerate(arguments):
            assert scores[p, a] == min(profile[v] for v in argument.values)
            assert (scores[p, a] >= 3) == would_say(profile, argument, 3)


def test_published_labels_are_shifted_by_one_column() -> None:
    assert shifted(("achievement", "universalism")) == ("benevolence",)
    argument = Argument("a", "c", "against", "p", ("achievement", "tradition", "universalism"))
    taught = [
        e.value
        for e in qa_examples([argument], {"a": "train"}, extreme("power"), PACK, 1, as_published=True)
    ]
    assert taught == ["benevolence", "universalism"]


def test_three_quarters_of_the_published_pairs_name_a_wrong_value(real_data: Path) -> None:
    """The reference says 74 %."""
    arguments = read_arguments(real_data / "touche23" / "questions_train.csv")
    pairs = [(v, a.values) for a in arguments for v in shifted(a.values)]
    wrong = np.mean([v not in labelled for v, labelled in pairs])
    assert 0.6 < wrong < 0.8
    assert "achievement" not in {v for v, _ in pairs}


def test_fidelity_changes_the_keys_of_stage_two_alone(load: Any, tiny_study: dict[str, Any]) -> None:
    from unharm.run import keys

    corrected, published = Plan(load(tiny_study)), Plan(load(tiny_study, "fidelity=published"))
    same = {
        a.stage: keys.examples_artefact(corrected, a) == keys.examples_artefact(published, a)
        for a in corrected.adapters
    }
    assert same == {"ag": True, "qa": False, "grammar": True}


def test_audit_counts_and_warns(load: Any, tiny_study: dict[str, Any]) -> None:
    run = new_run(load(tiny_study | {"profiles": ["extreme", "reverse"]}, "corpus.limit=null"))
    found, plan = audit(run), run.plan
    assert found["toxicity"]["arguments"]["n"] == 420
    assert found["toxicity"]["grammar"]["n"] == 20
    rows = {r["profile"]: r for r in found["profiles"]}
    assert rows["power"]["positives"] == sum(a.values == ("power",) for a in plan.arguments)
    assert rows["power"]["positives"] + rows["power"]["negatives"] == 420
    assert rows["reverse-power"]["positives"] == sum("power" not in a.values for a in plan.arguments)
    assert sum(found["splits"].values()) == 420
    assert found["labels"]["power"]["labelled"] >= 40
    few = audit(new_run(load(tiny_study)))
    assert any(r["few"] for r in few["profiles"])
    assert "too few to learn from" in audit_text(few)
    assert "warning:" in audit_text(few)


def test_audit_sees_near_duplicates(
    load: Any, tiny_study: dict[str, Any], tmp_path: Path, toy_data: Path
) -> None:
    lines = (toy_data / "arguments.tsv").read_text().splitlines()
    twins = [line.replace("town that", "town which") for line in lines[1:4]]
    path = tmp_path / "arguments.tsv"
    path.write_text("\n".join([*lines[:60], *twins]) + "\n")
    found = audit(new_run(load(tiny_study, f"corpus.arguments={path}", "corpus.limit=null")))
    assert found["near_duplicates"]["pairs"] == 3


def test_audit_of_the_published_profiles(real_data: Path, load: Any, tiny_study: dict[str, Any]) -> None:
    """5 of the 154 published profiles have no positive at all."""
    study = load(
        tiny_study,
        f"profiles=[extreme, {{survey: {real_data}/ess/ess.csv, nearest: 10}}]",
        f"corpus={{arguments: {real_data}/touche23/valueEval_10.csv, benign: {{grammar: {{file: grammar.csv}}}}}}",
        "fidelity=published",
    )
    rows = audit(new_run(study))["profiles"]
    assert len(rows) == 154
    assert sum(r["positives"] == 0 for r in rows) == 5


def test_pictures() -> None:
    profile = Profile("<b>x</b>", extreme("power").importances, "made up")
    drawn = bars(profile)
    assert len(drawn.splitlines()) == 11
    assert "power          " + "█" * 30 + " 6.00" in drawn
    assert "hedonism       " + "·" * 30 + " 1.00" in drawn
    picture = svg(profile)
    assert picture.startswith("<svg")
    assert "<b>" not in picture


def test_comparison() -> None:
    found = compared(extreme("power"), reverse("power"))
    assert found["rank_correlation"] == pytest.approx(-1)
    assert found["differences"] == {v: -5.0 if v == "power" else 5.0 for v in VALUES}
    assert compared(extreme("power"), extreme("power"))["jensen_shannon"] == 0
    assert "rank correlation –" in compared_text(extreme("power"), Profile("flat", (3.0,) * 10))
    with pytest.raises(UserError, match="did you mean 'power'"):
        named([extreme("power")], "powr")


def test_reverses() -> None:
    for name in TARGETS:
        pairs = zip(extreme(name).importances, reverse(name).importances, strict=True)
        assert all(a + b == 7 for a, b in pairs)


def test_yaml_profiles(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    good = dict.fromkeys(VALUES, 3)
    path.write_text(yaml.safe_dump({"calm": good | {"security": 5.5}}))
    assert read_profiles(path)[0]["security"] == 5.5
    nine = dict.fromkeys(VALUES[:9], 3)
    path.write_text(
        yaml.safe_dump(
            {"nine": nine, "wild": good | {"power": 7}, "odd": good | {"bravery": 2}, "none": None}
        )
        + "twice: {power: 1, power: 2}\n"
    )
    with pytest.raises(UserError) as caught:
        read_profiles(path)
    told = str(caught.value)
    for part in (
        "nine: the value 'universalism' is missing", "wild: power is 7", "unknown value 'bravery'",
        "none: expected ten values", "the field 'power' is given twice",
    ):  # fmt: skip
        assert part in told


def test_a_value_with_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("name," + ",".join(VALUES) + ",Power\nx" + ",1" * 11 + "\n")
    with pytest.raises(UserError, match="the value 'power' has two columns"):
        read_profiles(path)


def test_the_commands(tmp_path: Path) -> None:
    def unharm(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "unharm", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert len(json.loads(unharm("profiles", "list", "quickstart", "--json").stdout)) == 14
    assert "14 profiles" in unharm("profiles", "list", "quickstart").stdout
    assert "█" in unharm("profiles", "show", "quickstart", "power", "--svg", "p.svg").stdout
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert "difference" in unharm("profiles", "compare", "quickstart", "power", "hedonism").stdout
    wrong = unharm("profiles", "show", "quickstart", "powr")
    assert (wrong.returncode, "did you mean 'power'?" in wrong.stderr) == (2, True)
    assert json.loads(unharm("corpus", "audit", "quickstart", "--json").stdout)["stand_in"] is True
    assert unharm("corpus", "audit", "quickstart", "--scorer", "x").returncode == 2


def test_the_bench_prints_its_figures() -> None:
    root = ROOT
    command = [sys.executable, str(root / "bench" / "data.py"), "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(json.loads(result.stdout.splitlines()[-1])) == {
        "preprocess_ratio",
        "preprocess_s",
        "select_s",
    }


def test_stage_one_counts_of_the_reference(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positives then negatives, each 80/10/10: both ways of the bench give the published sizes."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import data as bench

    _, rows, _ = bench.real(real_data)
    profiles = [extreme("achievement"), extreme("self-direction")]
    expected = [(48, 6, 6, 5851, 732, 731), (125, 16, 15, 5774, 722, 722)]
    as_dicts = [{v: p[v] for v in VALUES} for p in profiles]
    labels = np.array([[r[v.capitalize()] == "1" for v in VALUES] for r in rows])
    assert bench.row_by_row(as_dicts, rows, 3.0) == expected
    assert bench.as_matrices(importance_matrix(profiles), labels, 3.0) == expected


def test_every_benign_set_is_an_arm() -> None:
    from unharm.core.arms import BENIGN_SETS

    assert set(KINDS) == set(BENIGN_SETS)
