"""A base whose files and configuration do not fit each other is refused before any work."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unharm.core.errors import UserError
from unharm.core.models.completeness import check_links, check_tensors

WEIGHTS = "model.safetensors"


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base to spoil."""
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


def rewritten(base: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors of a base, or leave them out where None is given."""
    tensors = load_file(base / WEIGHTS)
    for name, tensor in changes.items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, base / WEIGHTS, metadata={"format": "pt"})


def configured(base: Path, **changes: object) -> None:
    file = base / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(base: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_tensors(base, "my-base")
    assert "my-base" in str(caught.value)
    return str(caught.value)


def test_a_whole_base_passes(base: Path) -> None:
    check_tensors(base, "my-base")


def test_a_missing_layer_is_named(base: Path) -> None:
    names = [n for n in load_file(base / WEIGHTS) if ".layers.1." in n]
    rewritten(base, **dict.fromkeys(names))
    message = refusal(base)
    assert f"{len(names)} tensors of the model are in no file" in message
    assert "model.layers.1." in message


def test_more_layers_in_the_configuration_than_in_the_files(base: Path) -> None:
    configured(base, num_hidden_layers=5)
    assert "model.layers.2." in refusal(base)


def test_fewer_layers_in_the_configuration_than_in_the_files(base: Path) -> None:
    configured(base, num_hidden_layers=1)
    assert "belong to no part of the model: model.layers.1." in refusal(base)


def test_a_tensor_of_another_shape_is_named(base: Path) -> None:
    rewritten(base, **{"model.norm.weight": torch.zeros(5)})
    assert "model.norm.weight (5 in the file, 32 in the model)" in refusal(base)


def test_a_tensor_too_many_is_named(base: Path) -> None:
    rewritten(base, extra=torch.zeros(2))
    assert "extra" in refusal(base)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_file_names_the_base(base: Path, share: float) -> None:
    data = (base / WEIGHTS).read_bytes()
    (base / WEIGHTS).write_bytes(data[: int(share * len(data))])
    assert "cannot be loaded" in refusal(base)


def test_a_shard_that_the_index_names_and_that_is_gone(base: Path) -> None:
    names = list(load_file(base / WEIGHTS))
    half = len(names) // 2
    place = {n: f"model-0000{1 + (k >= half)}-of-00002.safetensors" for k, n in enumerate(names)}
    tensors = load_file(base / WEIGHTS)
    first = "model-00001-of-00002.safetensors"
    save_file({n: tensors[n] for n in names[:half]}, base / first, metadata={"format": "pt"})
    (base / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": place}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "cannot be loaded" in refusal(base)


def test_a_link_that_leads_out_is_refused(base: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    (base / "vocab.txt").symlink_to(secret)
    with pytest.raises(UserError, match=r"vocab\.txt leads out"):
        check_links(base, "my-base")


def test_a_link_within_the_folder_passes(base: Path) -> None:
    os.rename(base / WEIGHTS, base / "weights.bin.safetensors")
    (base / WEIGHTS).symlink_to("weights.bin.safetensors")
    check_links(base, "my-base")


def test_a_snapshot_of_the_hub_links_to_its_own_files(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    blobs = tmp_path / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    check_links(snapshot, "org/name")
    (snapshot / "vocab.txt").symlink_to(tmp_path)
    with pytest.raises(UserError, match="vocab"):
        check_links(snapshot, "org/name")


def test_a_milliard_layers_are_not_laid_out(base: Path) -> None:
    configured(base, num_hidden_layers=10**9)
    assert "1,000,000,000 layers" in refusal(base)
