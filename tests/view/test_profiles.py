"""The page of a profile, and the training of a run that is done, goes on, or failed."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from support.view import Client
from unharm.core.values import VALUES
from unharm.runs.adapters import adapter_tasks, record_failure
from unharm.runs.context import Run
from unharm.runs.status import status_updates
from unharm.store.store import Store
from unharm.training.checkpoints import Checkpoints, checkpointed_curves
from unharm.training.live_curves import LiveCurves, curves_in_training
from unharm.training.state import Curve, TrainingState
from unharm.view.charts import COLOURS
from unharm.view.site import open_site
from unharm.view.training import Progress, charts_of, status_of, training_of


def test_a_profile_has_its_targets_harms_and_examples(viewed_run: Run, client: Client) -> None:
    page = client.get("/profile?name=power").text
    for value in VALUES:
        assert f">{value}</th>" in page
    assert "power: 6" in page
    assert "benevolence: 1" in page
    assert "training examples of vim-ag · ag" in page
    assert "training examples of vim · qa" in page
    assert "/prompts?benchmark=rtp&amp;arm=vim&amp;profile=power" in page
    wrong = client.get("/profile?name=powr")
    assert wrong.status == 400
    assert "did you mean &#39;power&#39;" in wrong.text
    listed = client.get("/profiles").text
    for profile in viewed_run.plan.profiles:
        assert f"/profile?name={profile.name}" in listed


def test_training_shows_what_is_done_open_and_failed(viewed_run: Run, tmp_path: Path) -> None:
    run = Run(viewed_run.study, Store(tmp_path), viewed_run.plan, dry=viewed_run.dry)
    tasks = adapter_tasks(run).trained
    waiting = {name: [a.state for a in group] for name, group in training_of(run, None).items()}
    assert waiting["vim-ag · ag"] == ["waiting"] * 3
    weights = torch.zeros(2, 3)
    state = TrainingState.begin([tasks[0].key, tasks[1].key], weights)
    state.curves[0] = Curve(train=[(1, 2.0), (2, 1.5)])
    Checkpoints(run.store, state.keys, 0).write(state)
    state.curves[0].train.append((3, 1.25))
    state.step = 1
    Checkpoints(run.store, state.keys, 0).write(state)
    record_failure(run, tasks[2], "diverged at step 3")
    groups = training_of(run, None)
    by_key = {a.task.key: a for group in groups.values() for a in group}
    assert by_key[tasks[0].key].state == "begun"
    assert by_key[tasks[0].key].train == [(1, 2.0), (2, 1.5), (3, 1.25)]
    assert by_key[tasks[2].key].state == "diverged at step 3"
    [lines] = charts_of([by_key[tasks[0].key]])
    assert [line.name for line in lines] == [
        f"{tasks[0].plan.profile_name}: training",
        f"{tasks[0].plan.profile_name}: validation",
    ]


def test_a_run_that_trains_shows_its_losses_before_any_checkpoint(viewed_run: Run, tmp_path: Path) -> None:
    """A run folder as it is in the middle of training: a status, open tasks, and losses every few seconds."""
    run = Run(viewed_run.study, Store(tmp_path), viewed_run.plan, dry=viewed_run.dry)
    first, second, third = (t for t in adapter_tasks(run).trained if t.plan.stage == "ag")
    with status_updates(run):
        for task in (first, second):
            run.begin_task("adapters", task.artefact)
        live = LiveCurves(run.store, [first.key], [10], seconds=0)
        live.update([Curve(train=[(5, 2.0), (10, 1.5)], valid=[1.75])])
        for _ in range(1000):  # the status is written by a thread
            if status_of(str(tmp_path)):
                break
            time.sleep(0.01)
        groups = training_of(run, status_of(str(tmp_path)))
        site = open_site([tmp_path], run)
        page = site.get("/training", {"part": ["1"]}).body.decode()
        empty = site.get("/prompts", {}).body.decode()
        findings = site.get("/findings", {}).body.decode()
        site.close()
    by_key = {a.task.key: a for group in groups.values() for a in group}
    assert by_key[first.key] == Progress(first, "training", [(5, 2.0), (10, 1.5)], [(10, 1.75)])
    assert by_key[second.key] == Progress(second, "training")
    assert by_key[third.key].state == "waiting"
    assert 'data-state="running"' in page
    assert "2 training, 1 waiting" in page
    assert page.count("<polyline") == 1
    assert page.count("<circle") == 1
    assert "This run has no completions yet" in empty
    assert "not made yet: the run goes on" in findings
    (tmp_path / live.path).write_text("{")
    assert curves_in_training(run.store) == {}
    run.store.tidy()
    assert not (tmp_path / "checkpoints").exists()


def test_charts_have_as_many_adapters_as_colours(viewed_run: Run) -> None:
    task = adapter_tasks(viewed_run).trained[0]
    charts = charts_of([Progress(task, "done", [(1, 2.0)]) for _ in range(COLOURS + 3)])
    assert [len({line.colour for line in lines}) for lines in charts] == [COLOURS, 3]
    for lines in charts:
        assert [line.colour for line in lines[::2]] == [line.colour for line in lines[1::2]]


def test_a_damaged_checkpoint_has_no_curve(tmp_path: Path) -> None:
    store = Store(tmp_path)
    state = TrainingState.begin(["k"], torch.zeros(1, 2))
    Checkpoints(store, ["k"], 0).write(state)
    assert list(checkpointed_curves(store)) == ["k"]
    next((tmp_path / "checkpoints").rglob("*.safetensors")).write_bytes(b"no")
    assert checkpointed_curves(store) == {}


def test_the_page_of_training_tells_the_status(client: Client) -> None:
    page = client.get("/training")
    assert "The run is <strong>done</strong>" in page.text
    part = client.get("/training?part=1").text
    assert "<html" not in part
    assert 'data-state="done"' in part
