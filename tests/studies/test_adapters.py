"""The stage that makes adapters: stacks, resume inside a stage, faults, export, adapters made elsewhere."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from support.commands import start
from unharm.cli.app import main
from unharm.core.errors import UserError
from unharm.runs.adapters import failed_names
from unharm.runs.context import Run
from unharm.runs.pipeline import run_study
from unharm.runs.stages import training_session
from unharm.training import loop
from unharm.training.attention import label_logits
from unharm.training.stacked_lora import Stack
from unharm.training.state import AdapterJob, TrainingState


def vim_study(data: dict[str, Any], output: Path, **training: Any) -> dict[str, Any]:
    """Three profiles, both stages, some steps per epoch."""
    changed = data | {"output": str(output), "arms": ["vanilla", "vim"]}
    changed["training"] = {"vim": {"lr": 2e-3, "epochs": 2, "batch": 8}, "save_every": 0, **training}
    return changed


def made(run: Run) -> dict[str, str]:
    """The content hash of every adapter by name."""
    return {
        a.path.rpartition(".")[0]: Path(str(a.details["path"])).name
        for a in run.store.artefacts("adapters")
        if "arm" in a.details
    }


@pytest.fixture(scope="module")
def uninterrupted(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any]]:
    from support.studies import study_data
    from unharm.core.files.yaml_text import SpecText
    from unharm.study.check import parse_study

    folder = tmp_path_factory.mktemp("trained")
    data = vim_study(study_data(tiny_base, folder), folder / "run")
    study = parse_study(SpecText(yaml.safe_dump(data), "study.yaml"))
    return run_study(study, last="adapters"), data


def test_every_adapter_has_its_curve(uninterrupted: tuple[Run, dict[str, Any]]) -> None:
    run, _ = uninterrupted
    assert len(made(run)) == 6
    assert not list((run.store.root / "checkpoints").rglob("*.safetensors"))
    curves = pl.read_csv(run.store.root / "adapters" / "curves.csv")
    assert set(curves["stage"]) == {"ag", "qa"}
    assert set(curves["profile"]) == {"power", "benevolence", "security"}
    valid = curves.filter(pl.col("curve") == "valid")
    assert valid.height == 6 * 2
    for _, part in curves.filter(pl.col("curve") == "train").group_by(["stage", "profile"]):
        assert part["steps"].is_sorted()
        assert part["loss"].to_list()[0] > part["loss"].to_list()[-1]


def test_the_size_of_stacks_does_not_matter(
    uninterrupted: tuple[Run, dict[str, Any]], load: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    run, data = uninterrupted
    other = run_study(load(vim_study(data, tmp_path / "run", stack=2)), last="adapters")
    for name, content in made(other).items():
        ours, theirs = (
            load_file(r.store.root / "adapters" / c / "adapter_model.safetensors")
            for r, c in ((other, content), (run, made(run)[name]))
        )
        for key in ours:
            assert torch.allclose(ours[key], theirs[key], rtol=1e-4, atol=1e-6)


def killed_after(checkpoints: int, folder: Path, data: dict[str, Any]) -> None:
    """Starts the study in a process of its own and kills it after so many checkpoints."""
    folder.mkdir(exist_ok=True)
    spec = folder / "study.yaml"
    spec.write_text(yaml.safe_dump(data))
    process = start("train", str(spec))
    seen: set[str] = set()
    deadline = time.monotonic() + 120
    while len(seen) < checkpoints and process.poll() is None and time.monotonic() < deadline:
        seen |= {p.name for p in (Path(data["output"]) / "checkpoints").rglob("*.safetensors")}
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before the kill"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_stage_goes_on_inside_it_and_ends_the_same(
    uninterrupted: tuple[Run, dict[str, Any]], load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = uninterrupted
    data = vim_study(data, tmp_path / "run")
    killed_after(3, tmp_path, data)
    capsys.readouterr()
    resumed = run_study(load(data), last="adapters")
    assert made(resumed)
    # the other process may use another number of threads, so rounding may differ
    assert set(made(resumed)) == set(made(run))


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> list[int]:
    """The `at`-th forward pass of training raises once."""
    calls = [0]

    def failing(*words: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise error
        return label_logits(*words)

    monkeypatch.setattr(loop, "label_logits", failing)
    return calls


@pytest.mark.parametrize("at", [4, 11, 20])
def test_resumed_adapters_are_those_of_an_uninterrupted_run_bit_by_bit(
    uninterrupted: tuple[Run, dict[str, Any]],
    load: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
) -> None:
    run, data = uninterrupted
    data = vim_study(data, tmp_path / "run")
    interrupt(monkeypatch, at, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_study(load(data), last="adapters")
    if at != 11:  # which is between two stages
        assert list((tmp_path / "run" / "checkpoints").rglob("*.safetensors"))
    assert made(run_study(load(data), last="adapters")) == made(run)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(
    uninterrupted: tuple[Run, dict[str, Any]], load: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, data = uninterrupted
    data = vim_study(data, tmp_path / "run")
    interrupt(monkeypatch, 8, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_study(load(data), last="adapters")
    kept = sorted((tmp_path / "run" / "checkpoints").rglob("*.safetensors"))
    assert len(kept) == 2
    broken = bytearray(kept[-1].read_bytes())
    broken[len(broken) // 2] ^= 255
    kept[-1].write_bytes(broken)
    capsys.readouterr()
    resumed = run_study(load(data), last="adapters")
    told = capsys.readouterr().err
    assert f"{kept[-1].name}: this checkpoint is damaged and set aside" in told
    assert [p.read_bytes() for p in (tmp_path / "run" / "damaged").iterdir()] == [bytes(broken)]
    assert made(resumed) == made(run)


def test_without_memory_the_stack_is_halved_and_nothing_is_lost(
    uninterrupted: tuple[Run, dict[str, Any]], load: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    _, data = uninterrupted
    calls = interrupt(monkeypatch, 5, torch.OutOfMemoryError("no memory"))
    ended = run_study(load(vim_study(data, tmp_path / "run")), last="adapters")
    assert "not enough memory for 3 adapters at a time; continuing with 2" in capsys.readouterr().err
    assert len(made(ended)) == 6
    assert not list((tmp_path / "run" / "checkpoints").rglob("*.safetensors"))
    whole = interrupt(monkeypatch, -1, KeyboardInterrupt())
    run_study(load(vim_study(data, tmp_path / "two", stack=2)), last="adapters")
    assert calls[0] < 1.5 * whole[0]


def test_an_adapter_that_diverges_is_left_out_and_told(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = vim_study(tiny_study, tmp_path / "run")
    data["arms"] = ["vim", "vim-ag"]
    data["benchmarks"] = {"hexphi": {"file": "hexphi", "limit": 4, "max_tokens": 3}}
    initial_state = training_session.initial_state

    def poisoned(stack: Stack, jobs: list[AdapterJob]) -> TrainingState:
        state = initial_state(stack, jobs)
        weights = [
            torch.nan * w if j.label == "vim-ag · power" else w
            for j, w in zip(jobs, state.weights, strict=True)
        ]
        return TrainingState.begin(state.keys, torch.stack(weights))

    monkeypatch.setattr(training_session, "initial_state", poisoned)
    spec = tmp_path / "study.yaml"
    spec.write_text(yaml.safe_dump(data))
    monkeypatch.setattr(sys, "argv", ["unharm", "run", str(spec), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    out = capsys.readouterr()
    result = json.loads(out.out.splitlines()[-1])
    why = "the loss is not a finite number in epoch 1, step 1"
    assert result["failed_adapters"] == {"vim-ag · power · ag": why, "vim · power · qa": f"stage ag: {why}"}
    assert "incomplete: 2 adapters could not be trained" in out.err
    subjects = pl.read_csv(tmp_path / "run" / "findings" / "subjects.csv")
    assert set(subjects["profile"]) == {"benevolence", "security"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "vim-ag · power · ag: the loss is not a finite number" in page
    monkeypatch.undo()
    again = run_study(load(data))  # nothing is tried again under the same recipe
    assert set(failed_names(again)) == set(result["failed_adapters"])
    better = run_study(load(data, "training.vim.lr=0.001"), last="adapters")
    assert failed_names(better) == {}


def test_exported_adapters_have_a_card_and_load_in_peft(
    uninterrupted: tuple[Run, dict[str, Any]], tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, data = uninterrupted
    spec = tmp_path / "study.yaml"
    spec.write_text(yaml.safe_dump(data))
    out = tmp_path / "exported"
    monkeypatch.setattr(sys, "argv", ["unharm", "train", str(spec), "--export", str(out), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(result["exported"]) == 6
    names = sorted(p.name for p in out.iterdir())
    assert names == sorted({Path(p).name for p in result["exported"]})
    folder = next(p for p in out.iterdir() if p.name.startswith("vim--power--"))
    assert folder.name.rpartition("--")[2] == made(run)["adapters/vim--power"][:12]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft\n")
    for part in ("# vim: power", "| power | 6 of 6 |", "learning rate 0.002", run.base.key, "stage `qa`"):
        assert part in card
    base = AutoModelForCausalLM.from_pretrained(tiny_base).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, folder).eval()(ids).logits
    assert not torch.allclose(plain, adapted)


def test_an_adapter_made_elsewhere_is_an_arm(
    uninterrupted: tuple[Run, dict[str, Any]], tiny_study: dict[str, Any], load: Any, tmp_path: Path
) -> None:
    run, _ = uninterrupted
    folder = run.store.root / "adapters" / made(run)["adapters/vim--power"]
    data = tiny_study | {"arms": ["vanilla", "adapter:mine"], "adapters": {"mine": str(folder)}}
    del data["corpus"]
    data["benchmarks"] = {"hexphi": {"file": "hexphi", "limit": 4, "max_tokens": 6}}
    ended = run_study(load(data))
    subjects = pl.read_csv(ended.store.root / "findings" / "subjects.csv")
    assert set(subjects["arm"]) == {"vanilla", "adapter:mine"}
    completions = pl.read_parquet(ended.store.root / "completions" / "**" / "*.parquet")
    texts = completions.sort("prompt_id").group_by("prompt_id").agg(pl.col("text").n_unique())
    assert texts["text"].max() == 2
    assert made(ended)["adapters/adapter-mine"] == folder.name  # the same content, the same name


def test_profiles_alike_share_their_adapter(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    from unharm.core.values import VALUES
    from unharm.profiles.extreme import extreme

    table = tmp_path / "twin.csv"
    numbers = ",".join(str(extreme("power")[v]) for v in VALUES)
    table.write_text("name," + ",".join(VALUES) + f"\ntwin,{numbers}\n")
    data = vim_study(tiny_study, tmp_path / "run")
    data["profiles"] = [{"extreme": ["power", "security"]}, str(table)]
    run = run_study(load(data), last="adapters")
    own = made(run)
    assert len(own) == 6
    assert own["adapters/vim--twin"] == own["adapters/vim--power"] != own["adapters/vim--security"]
    begun = map(json.loads, (tmp_path / "run" / "journal.jsonl").read_text().splitlines())
    assert sum(r["stage"] == "adapters" and r["event"] == "begin" for r in begun) == 4


def test_the_order_of_arms_does_not_matter(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    data = vim_study(tiny_study, tmp_path / "run") | {"arms": ["vim-qa", "vim", "vim-ag"]}
    run = run_study(load(data), last="adapters")
    assert len(made(run)) == 9
    assert len(set(made(run).values())) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["adapter:gone"]}, "'gone', used by the arm 'adapter:gone', is not in 'adapters'"),
        ({"arms": ["adapter:mine"], "adapters": {"mine": "nowhere/at all"}}, "no adapter folder 'nowhere/at all'"),
        ({"training": {"lora": {"r": 0}}}, "training.lora.r"),
        ({"training": {"lora": {"r": -8}}}, "greater than or equal to 1"),
        ({"training": {"lora": {"targets": ["nowhere"]}}}, "'nowhere' matches no module of the base"),
        ({"training": {"stack": 0}}, "training.stack"),
        ({"training": {"trackers": ["tensorbord"]}}, "did you mean 'tensorboard'"),
        ({"training": {"vim": {"order": "random"}}}, "training.vim.order"),
        ({"prompting": {"pack": "toy", "format": "chat"}}, "this base has no chat template"),
        ({"engine": {"dtype": "4bit"}}, "a 4-bit base needs an NVIDIA GPU"),
    ],
)  # fmt: skip
def test_wrong_studies_get_one_message(
    tiny_study: dict[str, Any], load: Any, change: dict[str, Any], message: str
) -> None:
    data = tiny_study | {"arms": ["vim"]} | change
    with pytest.raises(UserError) as caught:
        run_study(load(data), last="adapters")
    assert message in str(caught.value)


def test_a_folder_that_is_no_adapter(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    for files, message in (
        ({}, "there is no adapter_config.json in it"),
        ({"adapter_config.json": "{}", "adapter_model.bin": ""}, "pickled weights are not loaded"),
        ({"adapter_config.json": "{", "adapter_model.safetensors": ""}, "it names no peft_type"),
        (
            {"adapter_config.json": '{"peft_type": "IA3"}', "adapter_model.safetensors": ""},
            "an adapter of type IA3",
        ),
    ):
        folder = tmp_path / str(len(files)) / str(abs(hash(message)))
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)
        data = tiny_study | {"arms": ["adapter:a"], "adapters": {"a": str(folder)}}
        with pytest.raises(UserError, match=message):
            run_study(load(data))


def test_trackers_get_every_point(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = vim_study(tiny_study, tmp_path / "run", trackers=["tensorboard"])
    data["arms"], data["profiles"] = ["vim-ag"], [{"extreme": ["power"]}]
    run = run_study(load(data), last="adapters")
    curves = pl.read_csv(run.store.root / "adapters" / "curves.csv")
    events = EventAccumulator(str(tmp_path / "run" / "trackers" / "tiny")).Reload()
    for curve in ("train", "valid"):
        logged = [(e.step, e.value) for e in events.Scalars(f"vim-ag · power/ag/{curve}_loss")]
        own = curves.filter(pl.col("curve") == curve)
        assert [s for s, _ in logged] == own["steps"].to_list()
        assert [v for _, v in logged] == pytest.approx(own["loss"].to_list(), rel=1e-5)


def test_a_tracker_that_is_not_installed(tiny_study: dict[str, Any], load: Any, tmp_path: Path) -> None:
    data = vim_study(tiny_study, tmp_path / "run", trackers=["wandb"])
    with pytest.raises(UserError, match="pip install wandb"):
        run_study(load(data), last="adapters")


def test_a_profile_with_nothing_to_say_trains_on_its_negatives(
    tiny_study: dict[str, Any], load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = vim_study(tiny_study, tmp_path / "run")
    data["arms"] = ["vim-ag"]
    data["corpus"]["threshold"] = 6
    low = tmp_path / "low.csv"
    from unharm.core.values import VALUES

    low.write_text("name," + ",".join(VALUES) + "\nlow," + ",".join("1" for _ in VALUES) + "\n")
    data["profiles"] = [str(low)]
    run = run_study(load(data), last="adapters")
    assert "low: no argument in the training split fits this profile" in capsys.readouterr().err
    assert list(made(run)) == ["adapters/vim-ag--low"]
