"""Guards against harm: halves, values set aside by category, the second half, and what a user sees of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from scipy.stats import rankdata

from support.charts import valid_charts
from support.mitigation_helpers import unharm
from support.paths import ROOT
from support.studies import study_data
from unharm.benchmarks.registry import select_half
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.core.records import Score
from unharm.report.latex import escape_latex
from unharm.runs.context import Run
from unharm.runs.halves import profile_halves
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards
from unharm.runs.stages.mitigation import Learned, aligned_arm, learn, second_half
from unharm.runs.stages.report import write_report
from unharm.runs.tools.rescore import rescore
from unharm.scoring import SCORERS
from unharm.scoring.texts import Text
from unharm.study.check import parse_study


def by_text(texts: Sequence[Text]) -> list[Score]:
    """A scorer that varies with the text: the tiny base never refuses anything."""
    return [Score(t.id, 1.0 + zlib.crc32(t.answer.encode()) % 5, "1") for t in texts]


def flagged_by_text(texts: Sequence[Text]) -> list[Score]:
    return [Score(t.id, float(zlib.crc32(t.answer.encode()) % 2), "1") for t in texts]


@pytest.fixture(scope="module", autouse=True)
def varied() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            SCORERS, "offline-harmfulness", replace(SCORERS["offline-harmfulness"], score=by_text)
        )
        patch.setitem(
            SCORERS, "offline-flagged", replace(SCORERS["offline-flagged"], score=flagged_by_text)
        )
        yield


@pytest.fixture(scope="module")
def mitigated(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that asked for mitigation; profiles, prompts and completions have HTML in them."""
    folder = tmp_path_factory.mktemp("mitigated")
    shutil.copytree(ROOT / "src/unharm/study/demo/data", folder / "data")
    hexphi = folder / "data" / "hexphi" / "category_8_adult_content.csv"
    hexphi.write_text(hexphi.read_text() + '"<script>alert(1)</script> in a prompt"\n')
    profiles = folder / "profiles.csv"
    names = ["achievement", "benevolence", "conformity", "hedonism", "power", "security", "self-direction",
             "stimulation", "tradition", "universalism"]  # fmt: skip
    rows = [
        [f"<script>alert({n})</script>", *(6 if n == m else 1 + (n + m) % 3 for m in range(10))]
        for n in range(6)
    ]
    profiles.write_text("\n".join(",".join(map(str, row)) for row in [["name", *names], *rows]))
    data = study_data(tiny_base, folder / "run") | {
        "data": str(folder / "data"), "profiles": [str(profiles)], "arms": ["vanilla", "icl", "vim"],
        "mitigation": {"benchmarks": ["hexphi", "beavertails"]},
    }  # fmt: skip
    data["benchmarks"]["hexphi"] = {"file": "hexphi", "max_tokens": 6, "also": ["offline-values"]}
    data["benchmarks"]["beavertails"] = {"file": "beavertails.csv", "max_tokens": 6}
    return run_study(parse_study(SpecText(yaml.safe_dump(data), "study.yaml")))


def test_the_second_half_is_what_was_not_looked_at(mitigated: Run) -> None:
    learned = pl.read_csv(mitigated.store.root / "findings" / "set_aside.csv").to_dicts()
    first, second = profile_halves([p.name for p in mitigated.plan.profiles], 42)
    tried = json.loads((mitigated.store.root / "mitigation" / "study.json").read_text())
    assert tried["profiles"][0]["names"] == second
    assert tried["benchmarks"]["hexphi"]["half"] == "b"
    assert tried["arms"] == ["vanilla", "vim"]
    assert tried["strategies"] == ["input-only", "safety", "value", "dual", "wrong-value", "neutral"]
    assert {row["profiles"] for row in learned} == {len(first)}
    used = pl.read_parquet(mitigated.store.root / "mitigation" / "completions" / "**" / "*.parquet")
    seen = {p.id for p in select_half(mitigated.plan.prompts["hexphi"].prompts, "a", 42)}
    assert not set(used["prompt_id"]) & seen
    aside = tried["prompting"]["set_aside"]
    assert {row["category"]: [row["value"]] for row in learned if row["value"]}.items() <= aside.items()
    control = tried["prompting"]["set_aside_control"]
    assert all(set(control[category]).isdisjoint(aside[category]) for category in control)
    assert {row["category"] for row in learned} == {
        p.category for b in ("hexphi", "beavertails") for p in mitigated.plan.prompts[b].prompts
    }


def test_the_value_that_was_planted_is_learned(mitigated: Run, tmp_path: Path) -> None:
    """The harm of the aligned arm is the importance of tradition, halved."""
    copy = tmp_path / "run"
    shutil.copytree(mitigated.store.root, copy)
    run = Run(mitigated.study, type(mitigated.store)(copy), mitigated.plan, shared_base=mitigated.loaded)
    for shard in all_shards(run):
        if shard.benchmark == "hexphi" and shard.subject.arm == "vim" and shard.subject.profile:
            frame = run.store.scan(shard.scores).collect()
            harm = shard.subject.profile["tradition"] / 2
            run.store.put_table(shard.scores, frame.with_columns(value=pl.lit(harm)), unanswered=0)
    learned = learn(run, "vim", ["hexphi"])
    first, _ = profile_halves([p.name for p in run.plan.profiles], 42)
    profiles = [p for p in run.plan.profiles if p.name in first]
    wanted = rankdata([p["tradition"] for p in profiles]).tolist()
    assert {one.r for one in learned} == {1.0}
    for one in learned:  # of three profiles other values may have the same order
        assert rankdata([p[one.value] for p in profiles]).tolist() == wanted
    assert sum(one.prompts for one in learned) == len(
        select_half(run.plan.prompts["hexphi"].prompts, "a", 42)
    )


def test_adapters_are_taken_over_and_not_trained_again(mitigated: Run) -> None:
    journal = [
        json.loads(x)
        for x in (mitigated.store.root / "mitigation" / "journal.jsonl").read_text().splitlines()
    ]
    assert not [row for row in journal if row["stage"] == "adapters"]
    own = {p.name for p in (mitigated.store.root / "adapters").iterdir() if p.is_dir()}
    taken = {p.name for p in (mitigated.store.root / "mitigation" / "adapters").iterdir() if p.is_dir()}
    assert taken
    assert taken < own


def test_guards_are_ready_to_use(mitigated: Run) -> None:
    guards = json.loads((mitigated.store.root / "findings" / "guards.json").read_text())
    assert {g["benchmark"] for g in guards} == {"hexphi", "beavertails"}
    ready = [guard for guard in guards if "text" in guard]
    assert all(guard["text"] for guard in ready)
    assert all(guard["value"] < 0 for guard in ready)
    assert all(guard["value_arm"] < guard["value_reference"] for guard in ready)
    assert {guard["strategy"] for guard in ready} <= {"safety", "value", "dual"}
    controls = {(guard["strategy"], guard["control"]["strategy"]) for guard in ready if "control" in guard}
    assert controls <= {("safety", "neutral"), ("value", "wrong-value"), ("dual", "neutral")}
    assert controls
    named = [guard for guard in ready if guard["strategy"] != "safety"]
    assert all(value in guard["text"] for guard in named for value in guard["values"])


def test_the_report_shows_mitigation_hypotheses_and_costs(mitigated: Run) -> None:
    page = (mitigated.store.root / "report.html").read_text()
    assert "effects" in valid_charts(mitigated.store.root / "report.html")
    body = page.split("<script>")[0]
    assert "Guard prompts" in body
    assert "refusals of harmless questions" in body
    assert "a neutral text of the same length" in body
    assert "Guards against controls and against each other" in body
    assert "<summary>Costs" in body
    assert re.search(r"\d+ not shown", body)
    assert "Do completions express the values" in body
    assert not re.search(
        r"\bnan\b|\bNone\b|\binf\b",
        re.sub(r"<details><summary>The study as run.*", "", body, flags=re.DOTALL),
    )


def test_published_figures_stand_beside_ours_on_the_papers_base_only(
    mitigated: Run, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(mitigated.store.root, copy)
    assert "Published:" not in (copy / "report.html").read_text()
    study = mitigated.study.model_copy(update={"base": "meta-llama/Llama-2-7b-hf"})
    run = Run(study, type(mitigated.store)(copy), mitigated.plan, shared_base=mitigated.loaded)
    page = write_report(run).read_text().split("<script>")[0]
    assert "Published:" in page
    row = next(r for r in page.split("<tr>") if "vim" in r and "toxicity probability" in r)
    assert "30.9 %" in row


def test_a_script_in_a_name_or_a_prompt_is_text(mitigated: Run) -> None:
    page = (mitigated.store.root / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(" in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page.split("<script>")[0])


def test_the_page_in_a_browser(mitigated: Run, tmp_path: Path) -> None:
    """Charts are drawn, nothing is asked of a network, no error, no script of the data runs."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on this machine")
    page = mitigated.store.root / "report.html"
    probe = tmp_path / "probe.html"
    hook = "<script>window.told=[];window.onerror=m=>told.push(m);window.alert=m=>told.push('alert '+m)</script>"
    after = (
        "<script>setTimeout(()=>{const o=document.createElement('pre');o.id='probe';o.textContent=JSON.stringify("
        "{told,charts:document.querySelectorAll('[data-chart] svg.marks').length,"
        "places:document.querySelectorAll('[data-chart]').length,"
        "requests:performance.getEntriesByType('resource').length,"
        "copies:document.querySelectorAll('.copies').length});document.body.append(o)},4000)</script>"
    )
    # the page's policy lets no script in but its own: another test tries that; this one has to look inside
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    before, end, _ = text.replace("<head>", "<head>" + hook, 1).rpartition("</body>")
    probe.write_text(before + after + end + "</html>")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=9000"]
    made = subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{probe}"],
        capture_output=True, text=True, timeout=120, check=False, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    found = re.search(r'<pre id="probe">(.*?)</pre>', made.stdout, re.DOTALL)
    assert found, made.stderr[-500:]
    seen = json.loads(found[1].replace("&amp;", "&"))
    assert seen["told"] == []
    assert seen["requests"] == 0
    assert seen["charts"] == seen["places"] > 3
    assert seen["copies"] > 5


def test_mitigate_can_be_asked_for_later(mitigated: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(mitigated.store.root, copy)
    shutil.rmtree(copy / "mitigation")
    for name in ("guards.json", "set_aside.csv"):
        (copy / "findings" / name).unlink()
    result = unharm("mitigate", str(copy), "--set", "mitigation.benchmarks=[hexphi]", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert {g["benchmark"] for g in told["guards"]} == {"hexphi"}


def test_what_was_scored_otherwise_is_not_shown(mitigated: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(mitigated.store.root, copy)
    assert "Guard prompts" in (copy / "report.html").read_text()
    rescore(copy, ["offline-harmfulness-topic"])
    assert "Guard prompts" not in (copy / "report.html").read_text()


def test_what_cannot_be_mitigated_is_told(tiny_study: dict[str, Any], load: Any, mitigated: Run) -> None:
    del tiny_study["corpus"]
    alone = tiny_study | {"arms": ["vanilla"]}
    with pytest.raises(UserError, match="vanilla and an arm with profiles"):
        aligned_arm(load(alone))
    for change, told in (
        (alone | {"mitigation": {}}, "study.yaml:\\d+: arms: mitigation needs vanilla"),
        (tiny_study | {"arms": ["vanilla", "icl"], "mitigation": {"arm": "vim"}}, "mitigation.arm: the arm 'vim' is not"),
        (tiny_study | {"arms": ["vanilla", "icl"], "mitigation": {},
                       "benchmarks": {"rtp": {"file": "rtp.csv"}}}, "none of hexphi is in this study"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=told):
            load(change)
    wrong = unharm("mitigate", str(mitigated.store.root), "--set", "mitigation.values={malwar: [power]}")
    assert "did you mean 'malware'" in str(wrong.exception)
    nothing = [Learned("hexphi", "malware", "", None, None, None, 3, 2)]
    study = second_half(mitigated, "vim", nothing)
    assert study.strategies == ["input-only", "safety", "neutral"], "there is no value to set aside"


def test_a_run_is_compared_with_itself_and_others_are_refused(mitigated: Run, tmp_path: Path) -> None:
    folder = mitigated.store.root
    table = tmp_path / "gate.md"
    result = unharm("compare", str(folder), str(folder), "--max-increase", "0.02", "--markdown", str(table))
    assert result.exit_code == 0, result.output
    assert "| within |" in table.read_text()
    told = json.loads(unharm("compare", str(folder), str(folder), "--json").stdout)
    assert told["risen"] == 0
    assert {row["arm"] for row in told["rows"]} == {"vanilla", "icl", "vim"}
    refused = unharm("compare", str(folder), str(folder / "mitigation"))
    assert isinstance(refused.exception, UserError)
    assert "other prompts" in str(refused.exception)
    wrong = unharm("compare", str(folder), str(folder), "--max-increase", "harm=2", "--max-increase", "x")
    assert isinstance(wrong.exception, UserError)
    assert len(wrong.exception.problems) == 3


def test_a_risen_harm_ends_with_three(mitigated: Run, tmp_path: Path) -> None:
    worse = tmp_path / "worse"
    shutil.copytree(mitigated.store.root, worse)
    run = Run(mitigated.study, type(mitigated.store)(worse), mitigated.plan, shared_base=mitigated.loaded)
    for shard in all_shards(run):
        if shard.benchmark == "beavertails":
            frame = run.store.scan(shard.scores).collect()
            run.store.put_table(shard.scores, frame.with_columns(value=pl.lit(1.0)), unanswered=0)
    result = unharm("compare", str(mitigated.store.root), str(worse), "--max-increase", "0.01")
    assert result.exit_code == 3, result.output
    assert "risen" in result.output


def test_latex_prints_what_it_is_given(mitigated: Run) -> None:
    result = unharm("report", str(mitigated.store.root), "--latex", "--json")
    assert result.exit_code == 0, result.output
    text = Path(json.loads(result.stdout.splitlines()[-1])["latex"]).read_text()
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") >= 3
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert rows
    assert not [line for line in rows if re.search(r"(?<!\\)[%#_]", line)]
    assert (
        escape_latex(r"50 % of a_b & c\d {x} #1 $") == r"50 \% of a\_b \& c\textbackslash{}d \{x\} \#1 \$"
    )
