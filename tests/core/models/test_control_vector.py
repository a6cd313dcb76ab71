"""Tests of `unharm.core.models.control_vector`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unharm.core.errors import UserError
from unharm.core.models.control_vector import write_control_vector

gguf = pytest.importorskip(
    "gguf", reason="control vectors need the package gguf: pip install 'unharm[gguf]'"
)


def test_a_control_vector_is_read_back(tmp_path: Path) -> None:
    shift = torch.zeros(4, 8)
    shift[2] = torch.arange(8) / 8
    write_control_vector(tmp_path / "v.gguf", shift, "llama")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == 1
    (tensor,) = reader.tensors
    assert tensor.name == "direction.2"
    assert torch.equal(torch.tensor(tensor.data), shift[2])


def test_the_first_layer_cannot_be_shifted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot shift the output of the first layer"):
        write_control_vector(tmp_path / "v.gguf", torch.ones(2, 4), "llama")
    assert not (tmp_path / "v.gguf").exists()
