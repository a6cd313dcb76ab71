"""Runs opened again: rescored, calibrated, labelled, judged by batch files; what is planned to be asked."""

from __future__ import annotations

import csv
import datetime
import json
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from support import judges
from support.scorers_helpers import service
from support.servers import serving
from support.studies import study_data
from unharm.analysis.score_maps import load_map
from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.reopen import open_run
from unharm.runs.shards import all_shards
from unharm.runs.stages.scores import pending, texts_of
from unharm.runs.tools.batches import collect, submit, write
from unharm.runs.tools.label_sheet import write_sheets
from unharm.runs.tools.rescore import rescore, rewrite_report
from unharm.study.check import parse_study


@pytest.fixture(scope="module")
def made(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of vanilla alone."""
    folder = tmp_path_factory.mktemp("rescored") / "run"
    data = study_data(tiny_base, folder) | {"arms": ["vanilla", "icl"]}
    del data["corpus"]
    data["benchmarks"]["rtp"]["limit"] = 40
    run_study(parse_study(SpecText(yaml.safe_dump(data), "study.yaml")))
    return folder


def unharm(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def completions(folder: Path) -> dict[str, float]:
    return {str(p): p.stat().st_mtime for p in (folder / "completions").rglob("*.parquet")}


def test_a_run_is_scored_again_without_generating(made: Path) -> None:
    before = completions(made)
    old = sorted((made / "scores").rglob("*.parquet"))
    run = rescore(made, ["offline-flagged-topic"], ["offline-harmfulness-topic"])
    assert completions(made) == before
    assert set(old) < set((made / "scores").rglob("*.parquet")), "earlier scores stay"
    subjects = pl.read_csv(made / "findings" / "subjects.csv", infer_schema_length=None)
    by_benchmark = dict(subjects.select("benchmark", "scorer").unique().iter_rows())
    assert by_benchmark["beavertails"] == "offline-flagged-topic"
    assert by_benchmark["hexphi"] == "offline-harmfulness"
    agreement = pl.read_csv(made / "findings" / "agreement.csv")
    assert set(agreement["one"]) == {
        "offline-harmfulness",
        "offline-harmfulness, offline-harmfulness-topic",
    }
    page = (made / "report.html").read_text()
    assert "Krippendorff" in page
    assert run.study.benchmarks.chosen()["hexphi"].also == ["offline-harmfulness-topic"]
    assert json.loads((made / "study.json").read_text())["benchmarks"]["hexphi"]["also"] == [
        "offline-harmfulness-topic"
    ]
    rescore(made, ["offline-flagged"], [], None, ["benchmarks.hexphi.also=[]"])


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--scorer", "offline-toxicty"], "did you mean 'offline-toxicity'"), ([], "no scorer is given"),
     (["--scorer", "mine", "--set", "scorers.mine={kind: perplexity}"], "but no benchmark of this run"),
     (["--scorers", "no.yaml"], "no such file")],
)  # fmt: skip
def test_mistakes_of_rescoring_are_told(made: Path, words: list[str], told: str) -> None:
    result = unharm("rescore", str(made), *words)
    assert isinstance(result.exception, UserError)
    assert told in str(result.exception)


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in this folder"):
        rescore(tmp_path, ["rating"])


def test_a_run_without_all_completions_is_told(made: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(made, copy)
    next((copy / "completions").rglob("*.parquet")).unlink()
    for again in (lambda: rescore(copy, ["rating"]), lambda: rewrite_report(copy)):
        with pytest.raises(UserError, match="completions are missing"):
            again()


def test_a_map_is_fitted_on_texts_and_used_by_a_study(made: Path, tmp_path: Path, toy_data: Path) -> None:
    texts = [
        row["premise"] if number % 3 else f"you stupid {row['premise']}"
        for number, row in enumerate(
            csv.DictReader(
                (toy_data / "arguments.tsv").open(), delimiter="\t", fieldnames=["a", "b", "c", "premise"]
            )
        )
    ]
    sheet = tmp_path / "texts.csv"
    with sheet.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "published"])
        writer.writerows([t, 0.1 + 0.8 * ("stupid" in t)] for t in texts)
    out = tmp_path / "map.json"
    result = unharm(
        "calibrate", "offline-toxicity", "published", "--texts", str(sheet), "--out", str(out), "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["n"] == len(texts)
    assert told["error"]["rank_correlation"]["value"] > 0.3
    assert load_map(out).one_version.startswith("1+alt-profanity-check")
    rescore(made, [], [], None, [f"benchmarks.rtp.mapped={out}", "analysis.toxicity_at=[2]"])
    subjects = pl.read_csv(made / "findings" / "subjects.csv", infer_schema_length=None)
    rtp = subjects.filter(pl.col("benchmark") == "rtp")
    assert set(rtp["scorer"]) == {"offline-toxicity → published (mapped)"}
    assert rtp["scorer_version"].str.contains("map ").all()
    assert rtp.filter(pl.col("metric") == "expected_maximum_toxicity@2").height
    assert (rtp["low"].drop_nulls() >= 0).all()
    with pytest.raises(UserError, match="this map is for"):
        rescore(made, [], [], None, [
            "benchmarks.rtp.scorer=surprise",
            "scorers.surprise={kind: perspective, url: 'http://127.0.0.1:9'}",
        ])  # fmt: skip
    rescore(made, [], [], None, ["benchmarks.rtp.mapped=null", "analysis.toxicity_at=[]"])


@pytest.mark.parametrize(
    ("words", "told"),
    [(["a", "b"], "give either --run or --texts"), (["rating", "offline-regard", "--run", "RUN"], "no benchmark of this run"),
     (["offline-toxicity", "odd", "--run", "RUN"], "this run has no scorer 'odd'"),
     (["offline-toxicity", "odd", "--texts", "SHEET"], "neither a column"),
     (["offline-toxicity", "published", "--texts", "SHEET"], "is not a number"),
     (["offline-toxicity", "few", "--texts", "SHEET"], "only 2 texts")],
)  # fmt: skip
def test_mistakes_of_calibrating_are_told(made: Path, tmp_path: Path, words: list[str], told: str) -> None:
    sheet = tmp_path / "texts.csv"
    sheet.write_text("text,published,few\ngood day,x,0.5\nbad day,0.5,0.1\n")
    words = [str(made) if w == "RUN" else str(sheet) if w == "SHEET" else w for w in words]
    result = unharm("calibrate", *words, "--out", str(tmp_path / "map.json"))
    assert isinstance(result.exception, UserError)
    assert told in str(result.exception)
    assert not (tmp_path / "map.json").exists()


def test_people_label_a_sheet_and_are_compared(made: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    result = unharm(
        "labels", str(made), "--benchmark", "beavertails", "--sample", "20", "--out", str(sheet)
    )
    assert result.exit_code == 0
    rows = list(csv.DictReader(sheet.open(newline="")))
    assert len(rows) == 20
    assert {r["value"] for r in rows} == {""}
    again = unharm("labels", str(made), "--benchmark", "beavertails", "--out", str(sheet))
    assert "exists already" in str(again.exception)
    labelled = tmp_path / "labelled.csv"
    with labelled.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(r | {"rater": "kim", "value": n % 2} for n, r in enumerate(rows))
    rescore(made, [], [], None, [f"benchmarks.beavertails.human={labelled}"])
    agreement = pl.read_csv(made / "findings" / "agreement.csv")
    found = agreement.filter((pl.col("measure") == "agreement") & (pl.col("other") == "person kim"))
    assert found["n"].to_list() == [20]
    rescore(made, [], [], None, ["benchmarks.beavertails.human=null"])


def label(sheet: Path, wrong: int, seed: int) -> dict[str, str]:
    """Fill in a sheet: 1 where the answer has a mild insult, and so many labels turned around."""
    rows = list(csv.DictReader(sheet.open(newline="")))
    turned = set(np.random.default_rng(seed).choice(sorted(r["completion_id"] for r in rows), wrong))
    for row in rows:
        row["value"] = str(int(("u" in row["answer"][:3]) != (row["completion_id"] in turned)))
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return {r["completion_id"]: r["value"] for r in rows}


def test_two_raters_label_and_the_rates_are_corrected(made: Path, tmp_path: Path) -> None:
    sheets = [tmp_path / f"labels-{name}.csv" for name in ("kim", "lee")]
    words = ["labels", str(made), "--benchmark", "rtp", "--sample", "60"]
    raters = ["--rater", "kim", "--rater", "lee"]
    assert unharm(*words, *raters, "--out", str(tmp_path / "labels.csv")).exit_code == 0
    drawn = pl.read_csv(made / "labels" / "rtp.csv")
    assert drawn["probability"].is_between(0, 1).all()
    assert set(drawn["arm"]) == {"vanilla", "icl"}
    one, other = (label(sheet, wrong, seed=3) for sheet, wrong in zip(sheets, (0, 4), strict=True))
    assert one.keys() == other.keys() <= set(drawn["completion_id"])
    apart = [c for c in one if one[c] != other[c]]
    human = f"benchmarks.rtp.human={json.dumps([str(s) for s in sheets])}"
    with pytest.raises(UserError, match=f"disagree on {len(apart)} completions without adjudication"):
        rescore(made, [], [], None, [human])
    settle = tmp_path / "settle.csv"
    given = [w for sheet in sheets for w in ("--labels", str(sheet))]
    assert unharm(*words, "--disagreements", *given, "--out", str(settle)).exit_code == 0
    assert sorted(label(settle, 0, seed=0)) == sorted(apart)
    human = f"benchmarks.rtp.human={json.dumps([str(s) for s in (*sheets, settle)])}"
    rescore(made, [], [], None, [human])
    findings = made / "findings"
    corrected = pl.read_csv(findings / "corrected.csv").filter(pl.col("category") == "all")
    assert corrected["arm"].to_list() == ["vanilla", "icl"]
    assert (corrected["low"] <= corrected["value"]).all()
    assert (corrected["value"] <= corrected["high"]).all()
    assert corrected["n"].sum() == len(one)
    compared = pl.read_csv(findings / "corrected_differences.csv")
    values = dict(corrected.select("arm", "value").iter_rows())
    assert compared["value"].item() == pytest.approx(values["icl"] - values["vanilla"], abs=1e-6)
    errors = pl.read_csv(findings / "scorer_errors.csv")
    assert set(errors["measure"]) == {"sensitivity", "specificity"}
    assert "corrected by labels" in (made / "report.html").read_text()
    more = tmp_path / "more.csv"
    given = [w for sheet in (*sheets, settle) for w in ("--labels", str(sheet))]
    assert unharm(*words, *given, "--out", str(more)).exit_code == 0
    again = {r["completion_id"] for r in csv.DictReader(more.open(newline=""))}
    assert len(again) == 60
    assert not again & set(one)
    rescore(made, [], [], None, ["benchmarks.rtp.human=null"])


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--benchmark", "rtpp"], "no benchmark 'rtpp'"),
     (["--benchmark", "beavertails", "--rater", "kim", "--rater", "kim"], "two raters are named 'kim'"),
     (["--benchmark", "beavertails", "--rater", "../kim"], "no name for a rater"),
     (["--benchmark", "beavertails", "--disagreements"], "no label file"),
     (["--benchmark", "beavertails", "--labels", "OTHER"], "of another study"),
     (["--benchmark", "beavertails", "--labels", "SCALE"], "a label of flagged is 0 (no) or 1 (yes)"),
     (["--benchmark", "beavertails", "--labels", "NONE"], "no completion has a label")],
)  # fmt: skip
def test_mistakes_of_labelling_are_told(made: Path, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "OTHER").write_text("completion_id,rater,value\n0123,kim,1\n")
    (tmp_path / "SCALE").write_text("completion_id,rater,value\n0123,kim,0.5\n")
    (tmp_path / "NONE").write_text("completion_id,rater,value\n0123,kim,\n")
    words = [str(tmp_path / w) if w.isupper() else w for w in words]
    before = sorted(p.name for p in tmp_path.iterdir())
    result = unharm("labels", str(made), *words, "--out", str(tmp_path / "sheet.csv"))
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_labels_of_another_study_stop_the_findings(made: Path, tmp_path: Path) -> None:
    shard = next((made / "completions").glob("*/rtp/*.parquet"))
    known = pl.read_parquet(shard)["completion_id"][0]
    for ids, message in (
        (["0123"], "of another study"),
        (["0123", known], "1 of 2 completions are not in this run ('0123')"),
    ):
        (tmp_path / "labels.csv").write_text("\n".join(["completion_id,value", *(f"{i},1" for i in ids)]))
        with pytest.raises(UserError) as error:
            rescore(made, [], [], None, [f"benchmarks.rtp.human={tmp_path / 'labels.csv'}"])
        assert message in str(error.value)
    rescore(made, [], [], None, ["benchmarks.rtp.human=null"])


def test_verdicts_are_drawn_by_what_the_scorer_measures(made: Path, tmp_path: Path) -> None:
    """A benchmark of scores from 1 to 5 under a scorer of flagged: 1 is harmful, not the least score."""
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    rescore(folder, [], [], None, ["benchmarks.hexphi.scorer=offline-flagged"])
    write_sheets(folder, "hexphi", 12, tmp_path / "sheet.csv")
    run = open_run(folder)
    shards = [s for s in all_shards(run) if s.benchmark == "hexphi"]
    scores = pl.concat(
        [run.store.scan(s.scores).select("completion_id", "value") for s in shards]
    ).collect()
    drawn = pl.read_csv(folder / "labels" / "hexphi.csv").join(scores, on="completion_id")
    wanted = ["harmful" if value == 1 else "harmless" for value in drawn["value"]]
    assert drawn["verdict"].to_list() == wanted
    assert "harmful" in wanted


@contextmanager
def batch_service() -> Iterator[tuple[str, dict[str, Any]]]:
    """Files and batches as an OpenAI-compatible service has them; the answers are those of the test judge."""
    state: dict[str, Any] = {"files": {}, "batches": {}, "ended": False}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def reply(self, data: Any, raw: bool = False) -> None:
            body = data.encode() if raw else json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain" if raw else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/files"):
                boundary = body.split(b"\r\n", 1)[0]
                content = next(p for p in body.split(boundary) if b"filename=" in p)
                name = f"file-{len(state['files'])}"
                state["files"][name] = content.split(b"\r\n\r\n", 1)[1].rstrip(b"\r\n").decode()
                self.reply({"id": name, "object": "file", "purpose": "batch", "bytes": 1, "created_at": 0,
                            "filename": "x", "status": "processed"})  # fmt: skip
                return
            asked = json.loads(body)
            name = f"batch-{len(state['batches'])}"
            state["batches"][name] = asked["input_file_id"]
            self.reply(self.batch(name))

        def batch(self, name: str) -> dict[str, Any]:
            done = state["ended"]
            return {"id": name, "object": "batch", "endpoint": "/v1/chat/completions", "created_at": 0,
                    "completion_window": "24h", "input_file_id": state["batches"][name],
                    "status": "completed" if done else "in_progress",
                    "output_file_id": f"out-{name}" if done else None}  # fmt: skip

        def do_GET(self) -> None:
            if "/batches/" in self.path:
                self.reply(self.batch(self.path.rsplit("/", 1)[1]))
                return
            name = self.path.split("/")[-2].removeprefix("out-")
            lines = state["files"][state["batches"][name]].splitlines()
            self.reply("\n".join(json.dumps(result_of(json.loads(line))) for line in lines), raw=True)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", state
    finally:
        server.shutdown()
        server.server_close()


def result_of(request: dict[str, Any]) -> dict[str, Any]:
    body = request["body"]
    prompt = body["messages"][-1]["content"]
    name = judges.NAMES[judges.number_in(prompt) % len(judges.NAMES)]
    if name in ("filtered", "filtered text"):
        response = {"status_code": 400, "body": {"error": {"code": "content_filter"}}}
    elif name == "always 500":
        response = {"status_code": 500, "body": {"error": {"message": "broken"}}}
    else:
        message = {"role": "assistant", "content": judges.says(body, prompt)}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        chat = {"id": "x", "object": "chat.completion", "created": 0, "model": "small", "choices": [choice]}
        response = {"status_code": 200, "body": chat | {"usage": usage}}
    return {"custom_id": request["custom_id"], "response": response, "error": None}


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Run, dict[str, Any], int]]:
    """A run with completions and a judge that is only reached through batches."""
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)
    count = 3 * len(judges.NAMES)
    with serving(judges.judge()) as faulty, batch_service() as (url, state):
        data = judges.judged_study(tmp_path, faulty, count)
        judge = data["scorers"]["judge"]
        judge |= {"price": {"input": 10.0, "output": 100.0}, "server": judge["server"] | {"url": url}}
        run_study(parse_study(SpecText(yaml.safe_dump(data), "study.yaml")), "completions")
        yield open_run(tmp_path / "run"), state, count


def test_batches_are_written_submitted_and_collected(generated: tuple[Run, dict[str, Any], int]) -> None:
    run, state, count = generated
    written = write(run, "judge")
    assert written["requests"] == count
    assert written["most_cost"] > 0
    assert write(run, "judge") == written, "files that were not submitted are replaced"
    lines = (run.store.root / written["files"][0]).read_text().splitlines()
    assert len({json.loads(line)["custom_id"] for line in lines}) == count
    assert len(submit(run, "judge")["submitted"]) == 1
    assert write(run, "judge")["requests"] == 0, "what is on its way is not asked again"
    with pytest.raises(UserError, match="no file is waiting"):
        submit(run, "judge")
    assert collect(run, "judge") == {"kept": 0, "failed": 0, "waiting": 1}
    state["ended"] = True
    assert collect(run, "judge") == {"kept": count - 3, "failed": 3, "waiting": 0}
    assert collect(run, "judge") == {"kept": 0, "failed": 0, "waiting": 0}
    kept, spent = run.scorers.answers.spent(run.scorers.service("judge").version)
    paid = count - 3 - 6  # neither failures nor filtered requests are paid
    assert kept == count - 3
    assert spent == pytest.approx(paid * 0.5 * (100 * 10 + 10 * 100) / 1e6)
    again = write(run, "judge")
    unread = ("prose", "score 0", "score 7", "half", "cut verdict", "prose first", "always 500")
    assert again["requests"] == 3 * len(unread)
    attempts = Counter(
        json.loads(line)["custom_id"].partition("-")[2]
        for file in again["files"] for line in (run.store.root / file).read_text().splitlines()
    )  # fmt: skip
    assert attempts == {"2": 18, "1": 3}


def test_results_of_a_batch_can_be_a_file(
    generated: tuple[Run, dict[str, Any], int], tmp_path: Path
) -> None:
    run, _, count = generated
    files = write(run, "judge")["files"]
    lines = (run.store.root / files[0]).read_text().splitlines()
    results = tmp_path / "results.jsonl"
    results.write_text("\n".join(json.dumps(result_of(json.loads(line))) for line in lines))
    found = collect(run, "judge", results)
    assert found["kept"] == count - 3
    results.write_text('{"custom_id": "nothing"}\n')
    with pytest.raises(UserError, match=r"results\.jsonl:1"):
        collect(run, "judge", results)
    with pytest.raises(UserError, match="is no judge"):
        write(run, "offline-toxicity")


def insults(body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
    """A server as Perspective's. Its two attributes go up together; a text with a `q` gets no answer."""
    text = body["comment"]["text"]
    if "q" in text:
        return 503, {}
    value = sum(map(ord, text)) % 97 / 97
    values = dict.fromkeys(body["requestedAttributes"], value) | {
        "INSULT": 0.8 * value + 0.1 * (len(text) % 2)
    }
    return 200, {"attributeScores": {a: {"summaryScore": {"value": v}} for a, v in values.items()}}


@pytest.fixture
def bridged(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the run with a study that has two scorers on a server, old and new."""
    import shutil

    monkeypatch.setenv("PERSPECTIVE_API_KEY", "any")
    monkeypatch.setattr("unharm.scoring.service_calls.FIRST", 0.01)
    monkeypatch.setattr("unharm.scoring.perspective.today", lambda: datetime.date(2026, 12, 31))
    shutil.copytree(made, tmp_path / "run")
    data = json.loads((made / "study.json").read_text()) | {"output": str(tmp_path / "run")}
    with service(insults) as url:
        asked = {"kind": "perspective", "url": url, "rate": 1000, "attempts": 2}
        data["scorers"] = {"old": asked, "new": asked | {"attribute": "INSULT"}}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
        yield tmp_path


def test_a_pilot_fits_a_map_that_a_study_uses(bridged: Path) -> None:
    study, out = bridged / "study.yaml", bridged / "map.json"
    words = ["pilot", str(study), "--from", "old", "--to", "new", "--n", "180", "--out", str(out)]
    result = unharm(*words)
    assert result.exit_code in (0, 3), result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("new → old on rtp: ")
    assert [line.split()[0] for line in lines[2:4]] == ["vanilla", "icl"]
    assert f"map: {out}; name it in benchmarks.rtp.mapped, with scorer: new" in lines
    missing = sum(int(line.split()[2]) for line in lines[2:4])
    assert (missing > 0) == (result.exit_code == 3) == ("unanswered (service: HTTP 503)" in result.stdout)
    asked = yaml.safe_load(study.read_text())["scorers"]
    (bridged / "scorers.yaml").write_text(yaml.safe_dump(asked))
    mapped = [f"benchmarks.rtp.mapped={out}"]
    rescore(bridged / "run", ["new"], [], bridged / "scorers.yaml", [*mapped, "benchmarks.hexphi=null"])
    subjects = pl.read_csv(bridged / "run" / "findings" / "subjects.csv", infer_schema_length=None)
    rtp = subjects.filter(pl.col("benchmark") == "rtp", pl.col("metric") == "expected_maximum_toxicity")
    assert set(rtp["scorer"]) == {"new → old (mapped)"}
    assert rtp["low"].null_count() == 0
    asked_by = ["--set", "benchmarks.rtp.scorer=new", "--set", *mapped]
    assert "not tested on" not in unharm("plan", str(study), *asked_by).stdout
    more = unharm("plan", str(study), *asked_by, "--set", "arms=[vanilla, icl, 'served:x']", "--set",
                  "served={x: {url: 'http://127.0.0.1:9/v1', model: m}}").stdout  # fmt: skip
    assert "rtp: new → old (mapped): the map was not tested on served:x" in more


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "odd", "--to", "new"], "unknown scorer 'odd'"),
        (["--from", "old", "--to", "old"], "is both scorers"),
        (["--from", "old", "--to", "rating"], "measures rating, which is no harm"),
        (["--from", "old", "--to", "new", "--benchmark", "hexphi"], "'old' does not score 'hexphi'"),
        (["--from", "refusal", "--to", "new"], "scores no benchmark of this study"),
        (["--from", "old", "--to", "new", "--set", "arms=[icl]"], "fitted on vanilla, which is no arm"),
    ],
)
def test_mistakes_of_a_pilot_are_one_message(bridged: Path, words: list[str], message: str) -> None:
    result = unharm("pilot", str(bridged / "study.yaml"), *words, "--out", str(bridged / "map.json"))
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert not (bridged / "map.json").exists()


def test_a_guard_on_a_server_is_asked_through_batch_files(made: Path, tmp_path: Path) -> None:
    """ShieldGemma is asked four questions about a text, whose answers belong together."""
    import shutil

    shutil.copytree(made, tmp_path / "run")
    data = json.loads((made / "study.json").read_text()) | {"output": str(tmp_path / "run")}
    server = {"url": "http://127.0.0.1:9/v1"}
    data["scorers"] = {"guard": {"kind": "guard", "preset": "shieldgemma", "server": server}}
    data["benchmarks"]["beavertails"]["scorer"] = "guard"
    run = open_run(tmp_path / "run", parse_study(SpecText(yaml.safe_dump(data), "study.yaml")))
    with run.store.lock():
        written = write(run, "guard")
        lines = [
            json.loads(x) for f in written["files"] for x in (run.store.root / f).read_text().splitlines()
        ]
        assert len(lines) == written["requests"]
        assert {line["custom_id"].rpartition("-")[2] for line in lines} == {"0", "1", "2", "3"}
        assert all(line["body"]["chat_template_kwargs"]["guideline"] for line in lines)
        results = [
            said_of_guard(line, "Yes" if line["custom_id"].endswith("-2") else "No") for line in lines
        ]
        texts = len(lines) // 4
        broken = results[0] | {"response": {"status_code": 500, "body": {}}}
        (tmp_path / "results.jsonl").write_text("\n".join(json.dumps(r) for r in [broken, *results[1:]]))
        assert collect(run, "guard", tmp_path / "results.jsonl") == {
            "kept": texts - 1,
            "failed": 1,
            "waiting": 0,
        }
        assert write(run, "guard")["requests"] == 4, "a text with a failed question is asked again"
        scorer = run.scorers["guard"]
        scorer.service.ask = None  # nothing is asked
        part = next(part for part in pending(run) if part.scorer == "guard")
        stored = run.scorers.answers.look_up([bytes.fromhex(lines[4]["custom_id"].partition("-")[0])])
        text = texts_of(run, part)[1]
        (score,) = [scorer.service.read(text, answer) for several in stored.values() for answer in several]
    assert (score.value, score.label) == (1.0, "unsafe: hate speech")


def said_of_guard(request: dict[str, Any], word: str) -> dict[str, Any]:
    """The result of a request to which a guard says one word."""
    message = {"role": "assistant", "content": word}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    chat = {"id": "x", "object": "chat.completion", "created": 0, "model": "small", "choices": [choice]}
    return {
        "custom_id": request["custom_id"],
        "response": {"status_code": 200, "body": chat},
        "error": None,
    }
