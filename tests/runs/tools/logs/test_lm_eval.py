"""Tests of `unharm.runs.tools.logs.lm_eval`, on lines as the harness writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unharm.core.errors import UserError
from unharm.runs.tools.logs.lm_eval import read_samples


def sample(number: int, **fields: Any) -> dict[str, Any]:
    """A sample as release 0.4.9 and later write it."""
    line = {
        "doc_id": number, "doc": {"question": f"q{number}", "subject": "even" if number % 2 == 0 else "odd"},
        "target": "1", "arguments": {"gen_args_0": {"arg_0": "q"}}, "resps": [["1"]], "filtered_resps": ["1"],
        "filter": "none", "metrics": ["acc"], "doc_hash": f"d{number}", "prompt_hash": f"p{number}",
        "target_hash": "t", "acc": 1.0,
    }  # fmt: skip
    return line | fields


def written(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def test_samples_are_read_by_document_filter_and_metric(tmp_path: Path) -> None:
    lines = [sample(n, filter=f, acc=float(n % 2)) for f in ("none", "strict-match") for n in range(4)]
    log = read_samples(written(tmp_path / "samples_gsm_2026-01-02T03-04-05.678.jsonl", lines), "subject")
    assert (log.task, log.samples, log.metrics) == ("gsm", 4, ["acc", "acc,strict-match"])
    assert log.scores["value"].to_list() == [0.0, 1.0, 0.0, 1.0] * 2
    assert set(log.scores["category"]) == {"even", "odd"}
    assert set(log.scores["content"]) == {"d0", "d1", "d2", "d3"}


def test_the_results_beside_it_say_version_shots_and_model(tmp_path: Path) -> None:
    results = {"versions": {"gsm": 3.0}, "n-shot": {"gsm": 5}, "model_name": "org/name"}
    (tmp_path / "results_2026-01-02T03-04-05.678.json").write_text(json.dumps(results))
    log = read_samples(written(tmp_path / "samples_gsm_2026-01-02T03-04-05.678.jsonl", [sample(1)]))
    assert (log.version, log.model, log.settings["examples in the prompt"]) == ("3.0", "org/name", "5")


def test_an_older_release_has_neither_filter_nor_metrics_nor_hashes(tmp_path: Path) -> None:
    old = {"doc_id": 0, "doc": {"q": "x"}, "target": "1", "arguments": [["q"]], "resps": [[["-1.0", "True"]]],
           "filtered_resps": [["-1.0", "True"]], "acc": 1.0, "acc_norm": 0}  # fmt: skip
    log = read_samples(written(tmp_path / "a.jsonl", [old]))
    assert (log.task, log.model, log.metrics) == ("", "a", ["acc", "acc_norm"])
    assert len(log.scores["content"][0]) == 32


def test_a_missing_score_is_unscored_and_no_number_is_left_out_with_a_note(tmp_path: Path) -> None:
    names = ["acc", "bits"]
    lines = [sample(0, metrics=names, bits=[-1.0, 3]), '{"doc_id": 1, "metrics": ["acc"], "acc": NaN}',
             sample(2, metrics=names, acc=None, bits=[-2.0, 3]), ""]  # fmt: skip
    log = read_samples(written(tmp_path / "a.jsonl", lines))
    assert log.scores["value"].to_list() == [1.0, None, None]
    assert log.notes == ("no single number, left out: bits",)


def test_every_wrong_line_is_told(tmp_path: Path) -> None:
    lines = [sample(1), sample(1), "{", "[1]", '{"id": 2}']
    with pytest.raises(UserError) as error:
        read_samples(written(tmp_path / "a.jsonl", lines))
    text = str(error.value)
    assert "a.jsonl:2: document '1' is in line 1 already" in text
    assert "a.jsonl:3: not JSON" in text
    assert text.count("no 'doc_id' in this line") == 2
    assert len(error.value.problems) == 4


def test_a_long_list_of_wrong_lines_is_cut(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="and 30 more"):
        read_samples(written(tmp_path / "a.jsonl", ["x"] * 50))


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"", b'{"doc_id": 1, "metrics": []}'])
def test_what_is_no_log_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"--log_samples"):
        read_samples(tmp_path / "a.jsonl")


def test_an_unknown_category_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no field 'topic'"):
        read_samples(written(tmp_path / "a.jsonl", [sample(1)]), "topic")
