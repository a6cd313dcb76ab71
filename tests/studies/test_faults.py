"""What happens to a run: tasks that always fail, Ctrl-C, a full disk, damaged files, a clock that jumps, status."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from support.commands import start, unharm
from support.studies import study_data
from unharm.cli.app import app
from unharm.core.errors import UserError
from unharm.core.files.yaml_text import SpecText
from unharm.core.records import Completion
from unharm.engines.hf import HfEngine
from unharm.engines.requests import Refused, Task
from unharm.runs.adapters import AdapterTask, failed_names
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards
from unharm.runs.stages import training_session
from unharm.runs.status import status, status_text
from unharm.runs.tools.rescore import rewrite_report
from unharm.scoring import SCORERS
from unharm.store import journal
from unharm.store.store import Store
from unharm.study.check import parse_study

TOGETHER = ("completions", "scores", "adapters", "findings")


def bytes_of(root: Path) -> dict[str, bytes]:
    files = (f for part in TOGETHER for f in sorted((root / part).rglob("*")) if f.is_file())
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in files}


def study_in(base: Path, output: Path) -> dict[str, Any]:
    data = study_data(base, output)
    data["arms"] = ["vanilla", "vim"]
    return data


def parsed(data: dict[str, Any]) -> Any:
    return parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished") / "run"
    run_study(parsed(study_in(tiny_base, root)))
    return root


@pytest.fixture
def copied(finished: Path, tmp_path: Path, tiny_base: Path) -> tuple[Path, Any]:
    """A finished run of one's own, and its study."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run", parsed(study_in(tiny_base, tmp_path / "run"))


def test_a_shard_that_always_fails_leaves_the_rest_whole_and_is_tried_again(
    tiny_base: Path,
    tmp_path: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    complete = HfEngine.complete

    def failing(
        self: HfEngine, tasks: Iterable[Task], refused: Refused
    ) -> Iterator[tuple[Task, Completion]]:
        def watched() -> Iterator[Task]:
            for task in tasks:
                if "vim--power" in task.name and "/hbr/" in task.name:
                    raise RuntimeError("a text that nobody should see")
                yield task

        return complete(self, watched(), refused)

    data = study_in(tiny_base, tmp_path / "run")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.setattr(HfEngine, "complete", failing)
    result = CliRunner().invoke(app, ["run", str(tmp_path / "study.yaml"), "--json"])
    assert result.exit_code == 3
    told = json.loads(result.stdout.splitlines()[-1])
    assert len(told["failed_tasks"]) == 1
    assert "RuntimeError at test_faults.py" in told["failed_tasks"][0]
    assert not told["complete"]
    everything = result.output + capsys.readouterr().err
    assert "nobody should see" not in everything
    assert "the same command" in everything
    details = list((tmp_path / "run" / "failed" / "details").iterdir())
    assert "nobody should see" in details[0].read_text()  # in the run folder, with all other texts
    completions = pl.read_parquet(tmp_path / "run" / "completions" / "vim--power*" / "hbr" / "*.parquet")
    assert set(completions["reason"]) == {"task failed: RuntimeError"}
    unscored = pl.read_csv(tmp_path / "run" / "findings" / "unscored.csv")
    assert unscored.filter(pl.col("reason").str.contains("task failed"))["completions"].sum() == 8
    monkeypatch.undo()
    run = run_study(parsed(data))
    assert not run.workers.failures
    assert bytes_of(tmp_path / "run") == bytes_of(finished)


def test_a_scorer_that_fails_on_a_shard_leaves_its_scores_unanswered(
    copied: tuple[Path, Any], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, study = copied
    shutil.rmtree(root / "scores")
    own = SCORERS["offline-flagged"].score

    def failing(texts: Any) -> Any:
        if any(t.id in bad for t in texts):
            raise ValueError("no")
        return own(texts)

    bad = set(
        pl.read_parquet(next((root / "completions" / "vanilla--input-only" / "beavertails").iterdir()))[
            "completion_id"
        ]
    )
    monkeypatch.setitem(SCORERS, "offline-flagged", replace(SCORERS["offline-flagged"], score=failing))
    run = run_study(study)
    assert len(run.workers.failures) == 1
    unscored = pl.read_csv(root / "findings" / "unscored.csv").filter(
        pl.col("reason") == "scorer failed: ValueError"
    )
    assert unscored["completions"].sum() == 14
    assert set(unscored["status"]) == {"unanswered"}
    monkeypatch.undo()
    assert not run_study(study).workers.failures
    assert bytes_of(root) == bytes_of(finished)


def test_an_adapter_whose_training_raises_is_tried_again_by_the_next_run(
    tiny_base: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples_of = training_session.examples_of

    def failing(run: Run, task: AdapterTask, split: str) -> pl.LazyFrame:
        if task.plan.stage == "ag":
            raise RuntimeError("no")
        return examples_of(run, task, split)

    study = parsed(study_in(tiny_base, tmp_path / "run"))
    monkeypatch.setattr(training_session, "examples_of", failing)
    run = run_study(study)
    assert len(run.workers.failures) == 3
    assert {why.partition(" at ")[0] for why in failed_names(run).values()} == {
        "RuntimeError",
        "stage ag: RuntimeError",
    }
    assert {s.subject.arm for s in all_shards(run)} == {"vanilla"}
    monkeypatch.undo()
    run = run_study(study)
    assert not failed_names(run)
    assert {k: v for k, v in bytes_of(tmp_path / "run").items() if k.startswith("findings")} == {
        k: v for k, v in bytes_of(finished).items() if k.startswith("findings")
    }


def test_where_every_task_fails_our_own_error_is_raised(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(
        self: HfEngine, tasks: Iterable[Task], refused: Refused
    ) -> Iterator[tuple[Task, Completion]]:
        raise RuntimeError("broken for all")

    monkeypatch.setattr(HfEngine, "complete", failing)
    with pytest.raises(RuntimeError, match="every item of completions fails"):
        run_study(parsed(study_in(tiny_base, tmp_path / "run")))
    assert status(str(tmp_path / "run")).state == "failed"


def interrupted(folder: Path, times: int, until: str) -> tuple[int, str, float]:
    """Starts a run and interrupts it so many times once a stage has begun; exit code, words, seconds to its end."""
    process = start("run", str(folder / "study.yaml"), fork_workers=True)
    limit = time.monotonic() + 120
    while time.monotonic() < limit and process.poll() is None:
        if any(row["stage"] == until for row in journal.events(Store(folder / "run"))):
            break
        time.sleep(0.01)
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    code = process.wait(timeout=120)
    return code, process.stderr, time.monotonic() - began


@pytest.mark.parametrize(("stage", "workers"), [("adapters", 1), ("completions", 1), ("completions", 2)])
def test_ctrl_c_finishes_what_is_begun_and_the_same_command_goes_on(
    tiny_base: Path, tmp_path: Path, finished: Path, stage: str, workers: int
) -> None:
    data = study_in(tiny_base, tmp_path / "run")
    data["executor"] = {"workers": workers, "cpus": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    code, told, _ = interrupted(tmp_path, 1, stage)
    assert code == 130, told
    assert "stopping after the current work is stored" in told
    assert "Traceback" not in told
    where = status(str(tmp_path / "run"))
    assert where.state == "stopped"
    rows = list(journal.events(Store(tmp_path / "run")))
    if stage == "completions" and workers == 1:
        begun = {r["path"] for r in rows if r["stage"] == "completions" and r["event"] == "begin"}
        done = {r["path"] for r in rows if r["stage"] == "completions" and r["event"] == "done"}
        assert begun == done
    assert unharm("run", str(tmp_path / "study.yaml"), fork_workers=True).returncode in (0, 3)
    assert bytes_of(tmp_path / "run") == bytes_of(finished)


def test_ctrl_c_twice_leaves_now(tiny_base: Path, tmp_path: Path) -> None:
    data = study_in(tiny_base, tmp_path / "run")
    data["training"]["vim"] |= {"epochs": 200}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data | {"executor": {"workers": 2}}))
    code, told, seconds = interrupted(tmp_path, 2, "examples")
    assert code == 130, told
    assert "stopped; run the same command again" in told
    assert seconds < 20


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def run_after(damage: Any, root: Path, study: Any, patterns: Sequence[str], set_aside: int) -> Run:
    """The run of a study after the first file of each pattern was damaged; at least `set_aside` damaged files
    are kept."""
    for pattern in patterns:
        damage(sorted(root.glob(pattern))[0])
    (root / "report.html").unlink()
    run = run_study(study)
    assert json.loads((root / "manifest.json").read_text())["seed"] == 42
    assert (root / "report.html").exists()
    assert len(list((root / "damaged").glob("*"))) >= set_aside
    return run


@pytest.mark.parametrize("damage", [flipped, cut], ids=["flipped", "cut"])
@pytest.mark.parametrize(
    ("patterns", "set_aside"),
    [
        # files of different subjects: none is made again because of another
        (["completions/vim--power*/rtp/*.parquet", "scores/vanilla*/hbr/*.parquet", "findings/subjects.csv"], 3),
        (["examples/qa.parquet", "manifest.json", "journal.jsonl"], 1),
        (["study.json", ".done/completions/vim--power*/rtp/*.json", "status.json"], 0),
    ],
    ids=["results", "manifest", "notes"],
)  # fmt: skip
def test_a_damaged_file_of_any_kind_is_found_and_made_again(
    copied: tuple[Path, Any], finished: Path, damage: Any, patterns: list[str], set_aside: int
) -> None:
    root, study = copied
    run_after(damage, root, study, patterns, set_aside)
    assert bytes_of(root) == bytes_of(finished)


@pytest.mark.parametrize("damage", [flipped, cut], ids=["flipped", "cut"])
@pytest.mark.parametrize(
    "pattern", ["adapters/*/adapter_model.safetensors", "adapters/*/adapter_config.json"]
)
def test_a_damaged_adapter_is_trained_again(copied: tuple[Path, Any], damage: Any, pattern: str) -> None:
    """Trained alone, its last bits are others: so is what hangs on it."""
    root, study = copied
    run = run_after(damage, root, study, [pattern], 1)
    assert not failed_names(run)
    assert all(run.store.done(a) for s in all_shards(run) for a in (s.completions, *s.scored.values()))


def test_a_report_of_a_damaged_manifest_says_what_to_do(copied: tuple[Path, Any]) -> None:
    root, _ = copied
    flipped(root / "manifest.json")
    with pytest.raises(UserError, match="no manifest") as error:
        rewrite_report(root)
    assert "unharm run STUDY" in str(error.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_message_and_the_run_goes_on_later(
    copied: tuple[Path, Any], finished: Path, tmp_path: Path
) -> None:
    root, study = copied
    shutil.rmtree(root / "scores")
    (root / "journal.jsonl").unlink()
    (root / "journal.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full") as error:
        run_study(study)
    assert "free some space and run the same command" in str(error.value)
    (root / "journal.jsonl").unlink()
    run_study(study)
    assert bytes_of(root) == bytes_of(finished)


def test_a_clock_that_jumps_changes_nothing(
    copied: tuple[Path, Any], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, study = copied
    shutil.rmtree(root / "scores")
    shutil.rmtree(root / "completions" / "vanilla--input-only")
    real, draw = time.time, random.Random(3)
    monkeypatch.setattr(time, "time", lambda: real() + draw.choice([-1e8, 0, 1e8]))
    run_study(study)
    monkeypatch.undo()
    assert bytes_of(root) == bytes_of(finished)
    os.utime(root / "study.json", (0, 0))
    os.utime(root / "manifest.json", (4e9, 4e9))
    before = [
        row for row in journal.events(Store(root)) if row["event"] == "done" and row["stage"] != "report"
    ]
    run_study(study)
    after = [
        row for row in journal.events(Store(root)) if row["event"] == "done" and row["stage"] != "report"
    ]
    assert after == before


def write_status(root: Path, **changes: Any) -> None:
    told = json.loads((root / "status.json").read_text())
    (root / "status.json").write_text(json.dumps(told | changes))


def test_status_of_a_finished_run(copied: tuple[Path, Any]) -> None:
    root, _ = copied
    told = status(str(root))
    assert told.state == "done"
    assert (
        told.stages["completions"].done == told.stages["completions"].total == 4 * (12 + 8 + 10 + 14 + 30)
    )
    assert "296 of 296 completions" in status_text(told)
    result = CliRunner().invoke(app, ["status", str(root), "--json", "--watch"])
    assert json.loads(result.stdout)["state"] == "done"
    assert result.exit_code == 3  # unscored completions


def test_status_tells_a_dead_run_from_a_slow_one(copied: tuple[Path, Any]) -> None:
    root, _ = copied
    mine = {"state": "running", "process": os.getpid(), "host": os.uname().nodename}
    write_status(root, **mine, at=time.time() - 1e6)  # a jump of the clock: the process is there
    assert status(str(root)).state == "running"
    write_status(root, **mine | {"process": 2**22 + 1}, at=time.time())
    assert status(str(root)).state == "silent"
    write_status(root, **mine | {"host": "elsewhere"}, at=time.time())
    assert status(str(root)).state == "running"
    write_status(root, **mine | {"host": "elsewhere"}, at=time.time() - 300)
    told = status(str(root))
    assert told.state == "silent"
    assert "no process seems to work on it" in status_text(told)
    assert CliRunner().invoke(app, ["status", str(root)]).exit_code == 1


def rate_of_adapters(root: Path) -> float:
    """Adapters a second as `status` has them; 0 before the first."""
    if not (root / "status.json").exists():
        return 0.0
    stage = status(str(root)).stages.get("adapters")
    return stage.rate if stage else 0.0


def test_status_while_a_run_goes_on(tiny_base: Path, tmp_path: Path) -> None:
    data = study_in(tiny_base, tmp_path / "run")
    data["training"]["vim"] |= {"epochs": 200}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(data))
    process = start("run", str(tmp_path / "study.yaml"))
    try:
        until = time.monotonic() + 90
        while time.monotonic() < until and not rate_of_adapters(tmp_path / "run"):
            time.sleep(0.2)
        told = status(str(tmp_path / "run"))
        assert told.state == "running"
        assert told.process == process.pid
        assert 0 < told.stages["adapters"].done < told.stages["adapters"].total
        assert any(name.startswith("adapters: ") for name in told.now)
        text = status_text(told)
        assert "left (until " in text
        with pytest.raises(UserError, match=f"process {process.pid} on"):  # a second one
            run_study(parsed(data))
    finally:
        process.kill()
        process.wait()
    assert status(str(tmp_path / "run")).state == "silent"


@pytest.fixture(autouse=True)
def _no_signal_left() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) == before


def test_a_run_has_no_failures_of_another(copied: tuple[Path, Any]) -> None:
    _, study = copied
    run: Run = run_study(study)
    assert run.workers.failures == []
