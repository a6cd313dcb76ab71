"""Tests of `unharm.runs.base`: sharded bases, and bases of a hub, mirrored on loopback."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from support.executors_helpers import small
from support.hub import Hub, hub_server
from support.one_import import run_all
from support.studies import study_data
from unharm.runs.base import Base, load_model, load_tokenizer, resolve_base

CHAT = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant: "


@pytest.fixture(scope="module")
def sharded(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base in shards, with a chat template, and second copies of its weights."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("sharded") / "base"
    shutil.copytree(tiny_base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    (folder / "chat_template.jinja").write_text(CHAT)
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"a second copy")
    (folder / "consolidated.safetensors").write_bytes(b"a third copy")
    return folder


def logits(base: Base, study: Any) -> torch.Tensor:
    model, tokenizer = load_model(base, study), load_tokenizer(base, study)
    with torch.inference_mode():
        return model(**tokenizer("The people in this town", return_tensors="pt")).logits  # type: ignore[no-any-return]


def test_a_sharded_base_is_the_same_model(tiny_base: Path, sharded: Path, tmp_path: Path) -> None:
    whole, parts = small(tiny_base, tmp_path / "a"), small(sharded, tmp_path / "b")
    one, other = resolve_base(whole), resolve_base(parts)
    assert one.key != other.key  # other files
    assert one.bytes < other.bytes < 1.3 * one.bytes  # without the copies
    assert torch.equal(logits(one, whole), logits(other, parts))


def test_a_base_of_the_hub_goes_through_plan_and_run(
    tiny_base: Path, sharded: Path, tmp_path: Path
) -> None:
    data = study_data(tiny_base, tmp_path / "run") | {"base": "lab/sharded", "revision": "v1"}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(data))
    models = {"lab/sharded": {"main": tiny_base, "v1": sharded}, "lab/gated": {"main": tiny_base}}
    commands = [
        ["plan", str(file)],
        ["run", str(file)],
        ["run", str(file), "--set", "base=lab/gated", "--set", "revision=main"],
        ["run", str(file), "--set", "revision=v2"],
    ]
    with hub_server(Hub(models, gated={"lab/gated"})) as hub:
        env = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        }
        env.pop("HF_HUB_OFFLINE", None)
        planned, done, gated, wrong = run_all(commands, tmp_path, env)
    assert planned.returncode == 0, planned.stderr
    assert done.returncode in (0, 3), done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert hub.commit("lab/sharded", "v1") in json.dumps(manifest)
    assert "model.safetensors.index.json" in hub.fetched
    assert "chat_template.jinja" in hub.fetched
    assert not [f for f in hub.fetched if f.startswith(("original", "consolidated"))]
    assert gated.returncode == 2
    assert "gated" in gated.stderr
    assert "Traceback" not in gated.stderr
    assert wrong.returncode == 2
    assert "no revision 'v2'" in wrong.stderr
