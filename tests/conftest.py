"""Fixtures: a tiny base made here, the toy data, the real data where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support.once import build_commands_once, skip_syncs
from support.studies import study_data
from unharm.core.progress import watched
from unharm.study.demo import data_folder

settings.register_profile("unharm", settings.default, deadline=None)  # a loaded machine is no failure
settings.load_profile("unharm")

build_commands_once()
skip_syncs()

REAL = Path(os.environ.get("UNHARM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


LONG = [
    "docs/test_pages.py", "studies/test_faults.py", "studies/test_executors.py", "hostile/test_hostile_study.py",
    "studies/test_mitigation.py", "docs/test_python_page.py",
    "studies/test_pipeline.py", "studies/test_edges.py", "studies/test_rescoring.py", "training/test_loop.py",
    "runs/test_hub_base.py", "studies/test_adapters.py", "studies/test_smollm2.py", "executors/test_processes.py",
    "runs/planning/test_rehearsal.py", "hostile/test_bad_inputs.py", "studies/test_generation.py",
    "view/test_walk.py", "cli/test_app.py", "studies/test_served.py", "engines/test_hf.py",
    "store/test_object_storage.py", "cli/test_query.py", "bench/test_data.py", "cli/test_plan.py",
]  # fmt: skip
"""The files that take longest, longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no worker ends with one while the others have nothing to do."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture(autouse=True)
def _messages_on_standard_error() -> Iterator[None]:
    """What the library logs is on standard error, as under the command line."""
    with watched("lines"):
        yield


@pytest.fixture(scope="session")
def toy_data() -> Path:
    return data_folder()


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"real data are not at hand ({REAL}; set UNHARM_TEST_DATA)")
    return REAL


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 32 × 2 layers after a few steps on toy text: fast, and its logits are not flat."""
    from unharm.study.demo.base import Shape, train_base
    from unharm.study.demo.world import documents

    out = tmp_path_factory.mktemp("bases") / "tiny"
    shape = Shape(hidden=32, layers=2, heads=2, vocabulary=600, context=512, window=64, batch=8, steps=60)
    train_base(documents(3)[:600], out, shape, seed=1)
    return out


@pytest.fixture
def tiny_study(tiny_base: Path, tmp_path: Path) -> dict[str, Any]:
    return study_data(tiny_base, tmp_path / "run")


@pytest.fixture
def load() -> Any:
    """From plain data to a checked study, as from a file."""
    import yaml

    from unharm.core.files.yaml_text import SpecText
    from unharm.study.check import parse_study

    def parse(data: dict[str, Any], *overrides: str) -> Any:
        text = SpecText(yaml.safe_dump(data, sort_keys=False), "study.yaml")
        for assignment in overrides:
            text.override(assignment)
        return parse_study(text)

    return parse
