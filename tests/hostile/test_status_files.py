"""Status files of others, and processes that are not the run's."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from hostile.harness import unharm
from unharm.runs.status import status

RIGHT: dict[str, Any] = {
    "state": "running", "at": 1e9, "began": 1e9, "process": os.getpid(),
    "process_started": psutil.Process().create_time(), "host": socket.gethostname(), "steps": {}, "stages": {},
    "failed": [], "failed_adapters": {}, "unscored": 0,
}  # fmt: skip


def written(folder: Path, **changes: Any) -> str:
    (folder / "status.json").write_text(json.dumps(RIGHT | changes))
    return str(folder)


def test_its_own_process_is_running_and_one_with_its_number_is_not(tmp_path: Path) -> None:
    assert status(written(tmp_path)).state == "running"
    assert status(written(tmp_path, process_started=5.0)).state == "silent"
    assert status(written(tmp_path, process=2**22 + 1)).state == "silent"


@pytest.mark.parametrize(
    "changes",
    [
        {"at": "x"}, {"at": None}, {"process": "x"}, {"process": -1}, {"process": 10**30}, {"steps": 5},
        {"stages": {"a": 1}}, {"state": "flying"}, {"failed": 5}, {"unscored": "many"}, {"extra": 1},
        {"process_started": "x"}, {"at": float("nan")}, {"failed_adapters": []},
    ],
)  # fmt: skip
def test_a_malformed_file_is_a_message(tmp_path: Path, changes: dict[str, Any]) -> None:
    ended = unharm("status", written(tmp_path, **changes))
    assert "Traceback" not in ended.err
    assert ended.code in (1, 2)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\x00", "9" * 5000])
def test_no_json_is_a_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    ended = unharm("status", str(tmp_path))
    assert ended.code == 2
    assert "cannot be read" in ended.err
