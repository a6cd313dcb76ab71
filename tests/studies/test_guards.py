"""A whole study scored by guards: one on this machine in one pass, and one of another family on a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from support.guards import HARMFUL, make_guard, spoken
from support.servers import Faulty, serving, text_of
from unharm.analysis.metrics import ALL
from unharm.core.records import Reply
from unharm.engines.replies import ReplyEngine
from unharm.runs.pipeline import run_study
from unharm.runs.shards import all_shards


@pytest.fixture
def prompts_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prompt that a guard on this machine reads."""
    read: list[str] = []
    ordinary = ReplyEngine.replies

    def replies(
        self: ReplyEngine, prompts: Sequence[str], groups: Sequence[str], max_tokens: int
    ) -> Iterator[tuple[int, Reply]]:
        read.extend(prompts)
        return ordinary(self, prompts, groups, max_tokens)

    monkeypatch.setattr(ReplyEngine, "replies", replies)
    return read


def guarded(data: dict[str, Any], guard: Path, server: Faulty) -> dict[str, Any]:
    """A study of one arm: BeaverTails by two guards, and HEx-PHI by one, as a rate of flagged answers."""
    local = {"kind": "guard", "preset": "qwen3guard", "model": str(guard)}
    data["arms"] = ["vanilla"]
    data["benchmarks"] = {
        "beavertails": {
            "file": "beavertails.csv", "limit": 28, "max_tokens": 5, "samples": 2,
            "scorer": "guard", "also": ["refuses", "second"],
        },
        "hexphi": {"file": "hexphi", "limit": 10, "max_tokens": 5, "scorer": "guard"},
    }  # fmt: skip
    data["scorers"] = {
        "guard": local,
        "refuses": local | {"measures": "refusal"},
        "second": {
            "kind": "guard", "preset": "llama-guard-3", "model": "small", "server": {"url": server.url}
        },
    }  # fmt: skip
    return data


def second_guard() -> Faulty:
    """A guard on a server: texts of odd length are unsafe, by a code that the preset does not know."""

    def tokens(body: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
        text = "".join(map(text_of, body["messages"]))
        said = spoken("llama-guard-3", text + HARMFUL * (len(text) % 2))
        return [("\nS99", {"\nS99": 1.0}) if token == "\nS1" else (token, p) for token, p in said]

    return Faulty(says=lambda body, _: "".join(t for t, _ in tokens(body)), tokens=tokens)


def table(run: Any, name: str) -> pl.DataFrame:
    return pl.read_csv(run.store.root / "findings" / f"{name}.csv")


def test_a_guarded_study(
    tiny_study: dict[str, Any],
    tiny_base: Path,
    tmp_path: Path,
    load: Any,
    prompts_read: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    guard = make_guard("qwen3guard", tiny_base, tmp_path / "guard")
    with serving(second_guard()) as server:
        study = load(guarded(tiny_study, guard, server))
        run = run_study(study)
        first, asked = len(prompts_read), len(server.bodies)
        every = list(all_shards(run))
        shards = [s for s in every if s.benchmark == "beavertails"]
        requests = pl.concat([run.store.scan(s.completions) for s in every if s not in shards]).collect()
        more = requests.filter(pl.col("text") != "").select("prompt_id", "text").unique().height
        completions = pl.concat([run.store.scan(s.completions) for s in shards]).collect()
        distinct = completions.filter(pl.col("text") != "").select("prompt_id", "text").unique().height
        again = run_study(study)
        assert len(prompts_read) == first
        assert len(server.bodies) == asked
    assert first == len(set(prompts_read)) == distinct + more  # flagged and refusal from the same pass
    assert asked == distinct + 1  # and the trial
    scores = {
        name: pl.concat([run.store.scan(s.scored[name]) for s in shards]).collect()
        for name in ("guard", "refuses", "second")
    }
    unknown = scores["second"]["label"].str.contains("unknown (S99)", literal=True).sum()
    told = f"second named categories that its preset does not know: S99 ({unknown})"
    assert unknown
    assert told in capsys.readouterr().err
    for frame in scores.values():
        assert frame.height == completions.height
        assert set(frame["status"]) <= {"scored", "unscored"}
    arms = table(again, "arms")
    rates = arms.filter((pl.col("metric") == "flagged_rate") & (pl.col("category") == ALL))
    assert set(rates["benchmark"]) == {"beavertails", "hexphi"}
    assert set(arms.filter(benchmark="hexphi")["metric"]) & {"harmfulness", "share_of_5"} == set()
    shown = rates.filter(benchmark="beavertails")
    by_prompt = scores["guard"].group_by("prompt_id").agg(pl.col("value").mean())
    assert shown["value"].to_list() == pytest.approx([by_prompt["value"].mean()], abs=1e-6)
    rows = table(again, "scorers").filter(benchmark="beavertails").iter_rows(named=True)
    quality = {(row["scorer"], row["role"]): row for row in rows}
    assert set(quality) == {("guard", "metrics"), ("refuses", "also"), ("second", "also")}
    for (name, _), row in quality.items():
        assert row["mean"] == pytest.approx(scores[name]["value"].mean(), abs=1e-6)
        assert row["scored"] == scores[name]["value"].count() > 0
    agreement = table(again, "agreement")
    pairs = set(agreement.filter(pl.col("kind") == "scorers").select("one", "other").iter_rows())
    assert pairs == {("guard", "second")}  # a refusal is not compared with harm
